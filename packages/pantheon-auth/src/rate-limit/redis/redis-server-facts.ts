/** Parses `INFO` of Redis or Valkey, and checks whether limits can be counted there. Pure. */

/** The first version that the script can run on, and the oldest that is tested. */
const VERSION_MIN: readonly [number, number] = [6, 2];

export interface ServerFacts {
  /** For example `7.0.15`; empty when not reported. */
  readonly version: string;
  readonly isCluster: boolean;
  readonly isReplica: boolean;
  /** 0: unlimited. */
  readonly maxmemoryBytes: number;
  readonly maxmemoryPolicy: string;
  /** Whether it uses snapshots without an append-only file, so that a restart restores old counters. */
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
    return `maxmemory-policy must be noeviction, because an evicted counter resets its limit.`;
  return null;
}
