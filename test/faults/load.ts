/**
 * What the clients do: verify at all nodes, revoke at nodes of chance and look until the others refuse, and lead whole
 * lives of keys. Every worker plans with its own source of chance, so a seed repeats what is asked of whom.
 */
import { type FaultClient, newest, type TestKey } from './client.ts';
import type { Operation } from './history.ts';
import type { ServiceNode } from './nodes.ts';
import type { Prng } from './prng.ts';

export interface Load {
  readonly client: FaultClient;
  readonly nodes: readonly ServiceNode[];
  readonly prng: Prng;
}

/** Between two looks of one client at one node: fine enough to see some milliseconds, and two cores bear it. */
const LOOK_EVERY_MS = 8;
/** Far beyond the bound: whoever still accepts then will be found by the judge. */
const LOOK_MAX_MS = 4_000;
/** How often one revocation is asked for until it is acknowledged, at nodes that may be away. */
const REVOKE_TRIES_MAX = 12;
const REVOKE_AGAIN_MS = 250;
/** How often the making of a key is asked for. */
const CREATE_TRIES_MAX = 40;
/** While a node is away, asking it as fast as it refuses would only take the cores from the others. */
const AFTER_FAILURE_MS = 25;

/** Makes keys at all nodes in turn, a few at a time. */
export async function prepareKeys(load: Load, count: number, workers: number = 8): Promise<readonly TestKey[]> {
  const keys: TestKey[] = [];
  await inParallel(workers, count, async (index) => {
    for (let tries = 0; tries < CREATE_TRIES_MAX; tries += 1) {
      const node = load.nodes[(index + tries) % load.nodes.length];
      const key = node === undefined ? null : await load.client.create(node, `key ${index}`);
      if (key !== null) {
        keys[index] = key;
        return;
      }
      await sleep(AFTER_FAILURE_MS);
    }
    throw new Error('No node makes keys.');
  });
  return keys;
}

/**
 * Revokes every key once, each at a node of chance, while all other nodes are asked about it without a pause from before
 * the call until they refuse. One in `settleEvery` is asked to settle.
 */
export async function revokeAll(
  load: Load,
  keys: readonly TestKey[],
  options: { readonly workers: number; readonly settleEvery?: number; readonly pauseMs?: number },
): Promise<void> {
  const plan = keys.map((key, index) => ({
    key,
    order: load.prng.shuffled(load.nodes),
    settle: options.settleEvery !== undefined && index % options.settleEvery === options.settleEvery - 1,
  }));
  await inParallel(options.workers, plan.length, async (index) => {
    const step = plan[index];
    if (step === undefined) return;
    await revokeWatched(load.client, step.key, step.order, step.settle);
    if (options.pauseMs !== undefined) await sleep(options.pauseMs);
  });
}

/** The first node of `order` is asked to revoke; while it cannot, the next one. */
async function revokeWatched(
  client: FaultClient,
  key: TestKey,
  order: readonly ServiceNode[],
  settle: boolean,
): Promise<void> {
  const [first, ...others] = order;
  if (first === undefined) return;
  // Every node remembers the key when it is revoked.
  await Promise.all(order.map((node) => client.verify(node, key)));
  const revocation = { isOver: false };
  const looks = others.map((node) => lookUntilRefused(client, node, key, revocation));
  for (let tries = 0; tries < REVOKE_TRIES_MAX; tries += 1) {
    const node = order[tries % order.length] ?? first;
    const revoked = await client.revoke(node, key, { settle });
    if (revoked.outcome.kind === 'done') {
      await client.verify(node, key);
      break;
    }
    await sleep(REVOKE_AGAIN_MS);
  }
  revocation.isOver = true;
  await Promise.all(looks);
}

async function lookUntilRefused(
  client: FaultClient,
  node: ServiceNode,
  key: TestKey,
  revocation: { readonly isOver: boolean },
): Promise<void> {
  let endsAtMs: number | null = null;
  for (;;) {
    const { outcome } = await client.verify(node, key);
    if (outcome.kind === 'no') return;
    const now = client.history.nowMs();
    if (revocation.isOver) endsAtMs ??= now + LOOK_MAX_MS;
    if (endsAtMs !== null && now > endsAtMs) return;
    await sleep(outcome.kind === 'yes' ? LOOK_EVERY_MS : AFTER_FAILURE_MS);
  }
}

/** Work that goes on until it is told to end. */
export interface Background {
  /** Ends it and waits for what was under way. @throws what went wrong in it. */
  end(): Promise<void>;
}

/** Asks about keys of chance at nodes of chance, live and revoked ones, `perSecond` in all. */
export function verifyInBackground(
  load: Load,
  keys: readonly TestKey[],
  { workers, perSecond }: { readonly workers: number; readonly perSecond: number },
): Background {
  const pauseMs = (1_000 * workers) / perSecond;
  return inBackground(workers, load.prng.fork('verify'), async (prng) => {
    await load.client.verify(prng.pick(load.nodes), prng.pick(keys));
    await sleep(pauseMs);
  });
}

/**
 * Leads whole lives: a key is made at one node and works at once at all (I5), is rotated, suspended, resumed, each
 * anywhere, works again at once everywhere, and in the end is revoked.
 */
export function liveInBackground(
  load: Load,
  { workers, pauseMs }: { readonly workers: number; readonly pauseMs: number },
): Background {
  const { client, nodes } = load;
  let made = 0;
  return inBackground(workers, load.prng.fork('live'), async (prng) => {
    await sleep(pauseMs);
    made += 1;
    const key = await client.create(prng.pick(nodes), `life ${made}`);
    if (key === null) return;
    const everywhere = (secrets: readonly string[] = key.secrets) =>
      Promise.all(nodes.flatMap((node) => secrets.map((secret) => client.verify(node, key, secret))));
    await everywhere();
    await client.rotate(prng.pick(nodes), key);
    await everywhere();
    const suspended = await client.suspend(prng.pick(nodes), key);
    await everywhere([newest(key)]);
    if (isDone(suspended)) await client.resume(prng.pick(nodes), key);
    await everywhere();
    if (prng.next() < 0.5) await client.revoke(prng.pick(nodes), key);
    await everywhere([newest(key)]);
  });
}

/** An answer about a key with limits. `degraded`: the node counted for itself. */
export type LimitedAnswer = Operation & { readonly degraded: boolean };

/** Asks about one key at all nodes, `perSecond` in all, until `work` is over. */
export async function askDuring(
  { client, nodes, prng }: Load,
  key: TestKey,
  { workers, perSecond }: { readonly workers: number; readonly perSecond: number },
  work: () => Promise<void>,
): Promise<readonly LimitedAnswer[]> {
  const answers: LimitedAnswer[] = [];
  const pauseMs = (1_000 * workers) / perSecond;
  const asking = inBackground(workers, prng.fork('ask'), async (own) => {
    answers.push(await client.verify(own.pick(nodes), key));
    await sleep(pauseMs);
  });
  try {
    await work();
  } finally {
    await asking.end();
  }
  return answers;
}

function isDone({ outcome }: Operation): boolean {
  return outcome.kind === 'done';
}

function inBackground(workers: number, prng: Prng, step: (prng: Prng) => Promise<void>): Background {
  let isOver = false;
  const work = async (own: Prng) => {
    while (!isOver) await step(own);
  };
  const all = Promise.all(Array.from({ length: workers }, (_, index) => work(prng.fork(`worker ${index}`))));
  // Told by `end`.
  all.catch(() => {});
  return {
    end: async () => {
      isOver = true;
      await all;
    },
  };
}

/** Runs `step` for 0 to `count` - 1, `workers` at a time. */
export async function inParallel(
  workers: number,
  count: number,
  step: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const work = async () => {
    for (let index = next++; index < count; index = next++) await step(index);
  };
  await Promise.all(Array.from({ length: workers }, work));
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
