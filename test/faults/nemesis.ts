/**
 * Who makes things fail: a plan of faults drawn from the seed, and the run of it. Every fault ends, and the next one begins
 * only when all nodes are ready again, so that each is met by nodes that work.
 */
import { sleep } from './load.ts';
import type { ServiceNode } from './nodes.ts';
import type { Prng } from './prng.ts';
import type { Stores } from './stores.ts';

export interface World {
  readonly nodes: readonly ServiceNode[];
  readonly stores: Stores;
}

/** What is done to one node, or to all when it concerns what they share. */
interface Fault {
  readonly name: string;
  /** How long it lasts. */
  readonly ms: readonly [from: number, to: number];
  /** Brings it about, waits with `last`, and heals it. */
  readonly run: (world: World, node: ServiceNode, last: () => Promise<void>) => Promise<void>;
}

const FAULTS: readonly Fault[] = [
  {
    name: 'every notification is dropped',
    ms: [1_500, 2_500],
    run: async ({ stores }, _node, last) => {
      stores.dropNotifications(true);
      await last();
      stores.dropNotifications(false);
    },
  },
  {
    name: 'PostgreSQL stands still',
    ms: [1_000, 3_000],
    run: async ({ stores }, _node, last) => {
      await stores.postgres.pause();
      await last();
      stores.postgres.resume();
    },
  },
  {
    name: 'PostgreSQL is killed and started again',
    ms: [300, 1_500],
    run: async ({ stores }, _node, last) => {
      await stores.postgres.kill();
      await last();
      await stores.postgres.restart();
    },
  },
  {
    name: 'PostgreSQL fails over',
    ms: [300, 1_000],
    run: ({ stores }, _node, last) => stores.failPostgresOver(last),
  },
  {
    name: 'the connections of a node to PostgreSQL are cut',
    ms: [50, 200],
    run: async ({ stores }, node, last) => {
      stores.toPostgres(node.name).cut();
      await last();
    },
  },
  {
    name: 'everything PostgreSQL answers a node is held back',
    ms: [700, 2_500],
    run: async ({ stores }, node, last) => {
      const release = stores.holdAnswers(node.name, 'everything');
      await last();
      release();
    },
  },
  {
    name: 'the answer to a poll is held back',
    ms: [300, 2_500],
    run: async ({ stores }, node, last) => {
      const release = stores.holdAnswers(node.name, 'head');
      await last();
      release();
    },
  },
  {
    name: 'cold reads hang',
    ms: [700, 2_500],
    run: async ({ stores }, node, last) => {
      const release = stores.holdAnswers(node.name, 'key');
      await last();
      release();
    },
  },
  {
    name: 'a node is killed and started again',
    ms: [100, 1_000],
    run: async (_world, node, last) => {
      await node.kill();
      await last();
      await node.launch();
    },
  },
  {
    name: 'a node stands still',
    ms: [3_000, 3_000],
    run: async (_world, node, last) => {
      node.freeze();
      await last();
      node.thaw();
    },
  },
  {
    name: 'Redis is killed and started again',
    ms: [300, 1_000],
    run: async ({ stores }, _node, last) => {
      await stores.redis.kill();
      await last();
      await stores.redis.restart();
    },
  },
  {
    name: 'Redis stands still',
    ms: [300, 1_500],
    run: async ({ stores }, _node, last) => {
      await stores.redis.pause();
      await last();
      stores.redis.resume();
    },
  },
  {
    name: 'Redis is flushed',
    ms: [50, 50],
    run: async ({ stores }, _node, last) => {
      await stores.redis.command('FLUSHALL');
      await last();
    },
  },
  {
    name: 'Redis fails over',
    ms: [100, 500],
    run: ({ stores }, _node, last) => stores.failRedisOver(last),
  },
];

export interface PlannedFault {
  readonly name: string;
  readonly nodeIndex: number;
  /** Quiet before it. */
  readonly afterMs: number;
  readonly forMs: number;
}

const QUIET_MS = [200, 600] as const;
/** A node needs this long at most to be ready after the worst of the faults. */
const RECOVERY_MS_MAX = 30_000;

/** Every fault `rounds` times, each round in another order. */
export function planFaults(prng: Prng, nodeCount: number, rounds: number): readonly PlannedFault[] {
  return Array.from({ length: rounds }, () => prng.shuffled(FAULTS))
    .flat()
    .map(({ name, ms }) => ({
      name,
      nodeIndex: prng.between(0, nodeCount - 1),
      afterMs: prng.between(...QUIET_MS),
      forMs: prng.between(...ms),
    }));
}

/** Carries out the plan. Answers what was done, for the one who reads a failure. */
export async function runFaults(world: World, plan: readonly PlannedFault[]): Promise<readonly string[]> {
  const startedAtMs = performance.now();
  const done: string[] = [];
  for (const { name, nodeIndex, afterMs, forMs } of plan) {
    const fault = FAULTS.find((one) => one.name === name);
    const node = world.nodes[nodeIndex];
    if (fault === undefined || node === undefined) throw new Error(`There is no fault "${name}".`);
    await sleep(afterMs);
    const begunAtMs = performance.now() - startedAtMs;
    await fault.run(world, node, () => sleep(forMs));
    const healedAtMs = performance.now() - startedAtMs;
    await Promise.all(world.nodes.map((one) => one.waitUntilReady(RECOVERY_MS_MAX)));
    const readyAtMs = performance.now() - startedAtMs;
    const times = [begunAtMs, healedAtMs, readyAtMs].map((ms) => `${(ms / 1_000).toFixed(2)} s`);
    done.push(`${name} (${node.name}): from ${times[0]}, healed ${times[1]}, ready ${times[2]}`);
  }
  return done;
}
