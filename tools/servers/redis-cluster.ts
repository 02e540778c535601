/** A private Redis Cluster for tests: primaries that share the slots evenly, and their replicas. */
import { inSync, type RedisOptions, type RedisServer, redisCommand, startRedis } from './redis.ts';
import { until } from './server-process.ts';

export interface RedisCluster extends AsyncDisposable {
  readonly nodes: readonly RedisServer[];
  readonly primaries: readonly RedisServer[];
  readonly replicas: readonly RedisServer[];
  /** Of every node, for a cluster client to begin with. */
  readonly urls: readonly string[];
}

const SLOTS = 16_384;
/** A node that does not answer for this long is replaced by a replica, if it has one. */
const NODE_TIMEOUT_MS = 2_000;
const FORM_MS_MAX = 30_000;

/**
 * Starts a cluster; every node sees all slots served when this resolves.
 * @param replicas per primary.
 */
export async function startRedisCluster(primaries = 3, replicas = 0): Promise<RedisCluster> {
  const count = primaries * (1 + replicas);
  const started = await Promise.allSettled(Array.from({ length: count }, () => startRedis(NODE)));
  const nodes = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const cluster = new OwnCluster(nodes, primaries);
  try {
    const failed = started.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    await form(cluster);
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

const NODE: RedisOptions = {
  settings: {
    'cluster-enabled': 'yes',
    'cluster-node-timeout': String(NODE_TIMEOUT_MS),
    // A cluster has the database 0 only.
    databases: '1',
  },
};

class OwnCluster implements RedisCluster {
  readonly nodes: readonly RedisServer[];
  readonly primaries: readonly RedisServer[];
  readonly replicas: readonly RedisServer[];

  constructor(nodes: readonly RedisServer[], primaries: number) {
    this.nodes = nodes;
    this.primaries = nodes.slice(0, primaries);
    this.replicas = nodes.slice(primaries);
  }

  get urls(): readonly string[] {
    return this.nodes.map(({ url }) => url);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }
}

async function form({ nodes, primaries, replicas }: RedisCluster): Promise<void> {
  // 1. Each primary its slots, and an epoch of its own: equal ones would be settled by a quarrel.
  await Promise.all(nodes.map((node, index) => node.command('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1))));
  await Promise.all(
    primaries.map((node, index) => {
      const from = Math.floor((index * SLOTS) / primaries.length);
      const to = Math.floor(((index + 1) * SLOTS) / primaries.length);
      // Not ADDSLOTSRANGE, which Redis 6.2 does not know.
      return node.command(
        'CLUSTER',
        'ADDSLOTS',
        ...Array.from({ length: to - from }, (_, slot) => String(from + slot)),
      );
    }),
  );

  // 2. Each meets each: waiting for the news to travel takes longer.
  for (const [index, node] of nodes.entries()) {
    for (const other of nodes.slice(index + 1)) {
      await node.command('CLUSTER', 'MEET', other.host, String(other.port));
    }
  }
  await everywhere(nodes, `cluster_known_nodes:${nodes.length}`);

  // 3. Replicas, in turn over the primaries, once they know the one they follow.
  const ids = await Promise.all(primaries.map(async (node) => String(await node.command('CLUSTER', 'MYID'))));
  await Promise.all(
    replicas.map(async (replica, index) => {
      await follow(replica, ids[index % ids.length] ?? '');
      await inSync(replica);
    }),
  );
  await everywhere(nodes, 'cluster_state:ok', `cluster_slots_ok:${SLOTS}`);
}

async function follow(replica: RedisServer, primaryId: string): Promise<void> {
  const followed = await until(async () => {
    try {
      return (await replica.command('CLUSTER', 'REPLICATE', primaryId)) === 'OK';
    } catch {
      return false; // It has met the primary but not yet learned its name.
    }
  }, FORM_MS_MAX);
  if (!followed) throw new Error(`the Redis node on port ${replica.port} does not take a primary`);
}

/** Resolves when every node says all of `facts`. */
async function everywhere(nodes: readonly RedisServer[], ...facts: readonly string[]): Promise<void> {
  for (const node of nodes) {
    const told = async (): Promise<boolean> => {
      const lines = String(await redisCommand(node.url, ['CLUSTER', 'INFO'])).split('\r\n');
      return facts.every((fact) => lines.includes(fact));
    };
    if (!(await until(told, FORM_MS_MAX))) throw new Error(`the Redis node on port ${node.port} never says ${facts}`);
  }
}
