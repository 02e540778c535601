/**
 * One open client of Redis, standalone or cluster, with the few calls that limits need. The only file that uses the
 * driver. Retries and health checks are in `redis-connection.ts`.
 */
import { ClientClosedError, ClientOfflineError, createClient, createCluster, defineScript, ErrorReply } from 'redis';
import { SECOND_MS } from '../../foundation/clock.ts';
import { LATE, withinMs } from '../../foundation/deadline.ts';
import { messageOf } from '../../foundation/errors.ts';
import type { Secret } from '../../foundation/secret.ts';
import { parseInfo, type ServerFacts } from './redis-server-facts.ts';
import { BUCKETS, clusterSlotOf, markerKey, type ScriptCall } from './redis-windows.ts';
import { beginScript, decideScript } from './redis-windows-script.ts';

/** The time limit for connecting to one server before the next one is tried. */
const DIAL_MS: number = SECOND_MS;

/** How often a failed primary of a cluster is tried again, and the cluster is asked for its replacement. */
const CLUSTER_RETRY_MS: number = SECOND_MS;

/** The driver's limit of waiting commands, as a fallback: `redis-connection.ts` stops earlier. */
const QUEUE_MAX = 20_000;

/** The name of the only primary of a standalone Redis. */
const ONLY_PRIMARY = 'redis';

export interface RedisEndpoint {
  readonly isCluster: boolean;
  /** False when it will never answer again. A cluster client reconnects by itself. */
  readonly isUsable: boolean;
  /** The primaries that currently have buckets. */
  primaries(): readonly string[];
  primaryOf(bucket: number): string;
  /** The `INFO` of a primary; null when the command is not allowed. */
  facts(primary: string): Promise<ServerFacts | null>;
  /** Runs the script that checks the limits of one call. Returns its answer unparsed. */
  decide(call: ScriptCall): Promise<unknown>;
  /** Sets the marker of a bucket in which nothing was counted before: its counts are complete from the beginning. */
  begin(bucket: number): Promise<unknown>;
  destroy(): void;
}

interface ArgumentsParser {
  push(...args: string[]): unknown;
  pushKey(key: string): unknown;
  pushKeys(keys: string[]): unknown;
}

const SCRIPTS = {
  decide: defineScript({
    SCRIPT: decideScript(),
    NUMBER_OF_KEYS: 2,
    parseCommand(parser: ArgumentsParser, { keys, args }: ScriptCall): void {
      parser.pushKeys([...keys]);
      parser.push(...args);
    },
    transformReply: undefined as unknown as () => unknown,
  }),
  begin: defineScript({
    SCRIPT: beginScript(),
    NUMBER_OF_KEYS: 1,
    parseCommand(parser: ArgumentsParser, key: string): void {
      parser.pushKey(key);
    },
    transformReply: undefined as unknown as () => unknown,
  }),
};

/**
 * Options of every client: no waiting in the driver, and no commands at the start that a restricted user may not run.
 */
const CLIENT_OPTIONS = {
  disableOfflineQueue: true,
  commandsQueueMaxLength: QUEUE_MAX,
  disableClientInfo: true,
  maintNotifications: 'disabled',
} as const;

/** The driver's own time limit is slower than a timer, and does not detect a blocked event loop. */
const NO_DRIVER_TIMEOUT = { timeout: 0 };

/**
 * Connects to the first server that answers and is not a replica, and to its whole cluster when it is part of one.
 * Rejects with the error of the driver, which may contain an address but no password.
 */
export async function dialRedis(seeds: readonly Secret[]): Promise<RedisEndpoint> {
  let failure: unknown = new Error('no server');
  for (const [nth, seed] of seeds.entries()) {
    const client = standaloneClient(seed);
    try {
      await inTime(DIAL_MS, client.connect());
      const facts = await inTime(DIAL_MS, askFacts(client.sendCommand(['INFO'])));
      // If `INFO` is not allowed, several addresses mean a cluster.
      if (facts?.isCluster ?? seeds.length > 1) {
        destroy(client);
        return await dialCluster(seeds);
      }
      // A replica is used only if there is no other server: it may be promoted, otherwise the mistake is reported.
      if (facts?.isReplica !== true || nth === seeds.length - 1) return standaloneEndpoint(client);
      destroy(client);
    } catch (error) {
      failure = error;
      destroy(client);
    }
  }
  throw failure;
}

/** Whether a failed command was certainly not counted: it was not sent, or Redis answered with an error. */
export function wasNotCounted(error: unknown): boolean {
  return error instanceof ErrorReply || error instanceof ClientClosedError || error instanceof ClientOfflineError;
}

/** Error replies about one key, which say nothing about other keys of the same primary. */
const OF_ONE_KEY = new Set(['TRYAGAIN', 'WRONGTYPE', 'ERR']);

export function isOfOneKey(error: unknown): boolean {
  return error instanceof ErrorReply && OF_ONE_KEY.has(error.message.split(' ', 1)[0] ?? '');
}

function standaloneClient(seed: Secret) {
  return createClient({
    ...CLIENT_OPTIONS,
    url: seed.reveal(),
    RESP: 2,
    scripts: SCRIPTS,
    commandOptions: NO_DRIVER_TIMEOUT,
    // No automatic reconnect: a new connection is opened and checked instead.
    socket: { connectTimeout: DIAL_MS, reconnectStrategy: false },
  }).on('error', ignore);
}

function standaloneEndpoint(client: ReturnType<typeof standaloneClient>): RedisEndpoint {
  return {
    isCluster: false,
    get isUsable() {
      return client.isReady;
    },
    primaries: () => [ONLY_PRIMARY],
    primaryOf: () => ONLY_PRIMARY,
    facts: () => askFacts(client.sendCommand(['INFO'])),
    decide: (call) => client.decide(call),
    begin: (bucket) => client.begin(markerKey(bucket)),
    destroy: () => destroy(client),
  };
}

async function dialCluster(seeds: readonly Secret[]): Promise<RedisEndpoint> {
  const [url] = seeds.map((seed) => new URL(seed.reveal()));
  if (url === undefined) throw new Error('no server');
  const cluster = createCluster({
    RESP: 2,
    scripts: SCRIPTS,
    rootNodes: seeds.map((seed) => ({ url: seed.reveal() })),
    commandOptions: NO_DRIVER_TIMEOUT,
    // Otherwise one failed primary would prevent finding the others.
    minimizeConnections: true,
    topologyRefreshOnReconnectionAttemptStrategy: CLUSTER_RETRY_MS,
    defaults: {
      ...CLIENT_OPTIONS,
      ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
      ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
      socket: {
        connectTimeout: DIAL_MS,
        reconnectStrategy: () => CLUSTER_RETRY_MS,
        ...(url.protocol === 'rediss:' ? { tls: true } : {}),
      },
    },
  })
    .on('error', ignore)
    .on('node-error', ignore);
  try {
    await inTime(DIAL_MS * 2, cluster.connect());
  } catch (error) {
    destroy(cluster);
    throw error;
  }
  const primaryOf = (bucket: number): string => cluster.slots[SLOTS[bucket] ?? 0]?.master.address ?? '';
  return {
    isCluster: true,
    isUsable: true,
    primaries: () => [...new Set(SLOTS.map((_, bucket) => primaryOf(bucket)))],
    primaryOf,
    async facts(primary) {
      const node = cluster.masters.find(({ address }) => address === primary);
      if (node === undefined) throw new Error('no longer a primary');
      const client = await cluster.nodeClient(node);
      return askFacts(client.sendCommand(['INFO']));
    },
    decide: (call) => cluster.decide(call),
    begin: (bucket) => cluster.begin(markerKey(bucket)),
    destroy: () => destroy(cluster),
  };
}

/** The cluster slot of each bucket. */
const SLOTS: readonly number[] = Array.from({ length: BUCKETS }, (_, bucket) => clusterSlotOf(bucket));

/** Null: the user may not run `INFO`. */
async function askFacts(info: Promise<unknown>): Promise<ServerFacts | null> {
  try {
    return parseInfo(String(await info));
  } catch (error) {
    if (messageOf(error).startsWith('NOPERM')) return null;
    throw error;
  }
}

async function inTime<T>(ms: number, work: Promise<T>): Promise<T> {
  const result = await withinMs(ms, work);
  if (result === LATE) throw new Error('no answer in time');
  return result;
}

/** Closes a client. The driver throws if it is already closed. */
function destroy(client: { destroy(): unknown }): void {
  try {
    client.destroy();
  } catch {
    // It is already closed.
  }
}

/** A lost connection is also reported by the failing command. */
function ignore(): void {}
