/** What a Redis or Valkey says of itself (`INFO`), and whether limits can be counted there. Pure. */

/** The first with all that the script needs, and the oldest that is tested. */
const VERSION_MIN: readonly [number, number] = [6, 2];

export interface ServerFacts {
  /** `7.0.15`; empty when it was not told. */
  readonly version: string;
  readonly isCluster: boolean;
  readonly isReplica: boolean;
  /** 0: no bound. */
  readonly maxmemoryBytes: number;
  readonly maxmemoryPolicy: string;
  /** Snapshots are made or were loaded, and there is no append-only file: a restart goes back to the last one. */
  readonly isSnapshotOnly: boolean;
}

export function parseInfo(info: string): ServerFacts {
  const told = new Map<string, string>();
  for (const line of info.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) told.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const snapshots = Number(told.get('rdb_saves') ?? 0) + Number(told.get('rdb_last_load_keys_loaded') ?? 0);
  return {
    version: told.get('redis_version') ?? '',
    isCluster: told.get('cluster_enabled') === '1',
    isReplica: told.get('role') === 'slave',
    maxmemoryBytes: Number(told.get('maxmemory') ?? 0),
    maxmemoryPolicy: told.get('maxmemory_policy') ?? '',
    isSnapshotOnly: told.get('aof_enabled') === '0' && snapshots > 0,
  };
}

/** Why limits can never be counted there; `null` when they can. */
export function unfitness({ version, maxmemoryBytes, maxmemoryPolicy }: ServerFacts): string | null {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (version !== '' && (major < VERSION_MIN[0] || (major === VERSION_MIN[0] && minor < VERSION_MIN[1])))
    return `Redis ${VERSION_MIN.join('.')} or later is required, or Valkey.`;
  if (maxmemoryBytes > 0 && maxmemoryPolicy !== '' && maxmemoryPolicy !== 'noeviction')
    return `maxmemory-policy must be noeviction: a counter that is evicted is a limit that starts anew.`;
  return null;
}
