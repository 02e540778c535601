/** Three nodes of one service, the client that talks to them and the record of what it saw, opened and closed as one. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { newServerFolder, removeServerFolder } from '../../tools/servers/run-folder.ts';
import { checkHistory, type Violation } from './check-history.ts';
import { FaultClient, newest, type TestKey } from './client.ts';
import { History } from './history.ts';
import { inParallel } from './load.ts';
import { runCommand, ServiceNode } from './nodes.ts';
import type { Prng } from './prng.ts';
import { Stores } from './stores.ts';

const NODE_NAMES = ['node-1', 'node-2', 'node-3'] as const;
/** Keys whose every secret is presented to every node in the end. */
const SHOWN_KEYS_MAX = 200;
const SHOW_WORKERS = 8;

export interface Cluster {
  readonly nodes: readonly ServiceNode[];
  readonly stores: Stores;
  readonly history: History;
  readonly client: FaultClient;
  close(): Promise<void>;
}

/** Three processes on one PostgreSQL and one Redis, each on its own way to them. */
export async function openCluster(): Promise<Cluster> {
  const scratch = newServerFolder('nodes');
  const stores = await Stores.start(NODE_NAMES);
  const history = new History();
  const common = { PANTHEON_AUTH_MASTER_KEY: randomBytes(32).toString('hex') };
  const nodes = NODE_NAMES.map((name) => {
    return new ServiceNode({ name, scratch, environment: { ...common, ...stores.environmentOf(name) } });
  });
  const close = async (): Promise<void> => {
    history.close();
    await stores.close();
    await Promise.all(nodes.map((node) => node.kill()));
    removeServerFolder(scratch);
  };
  try {
    const rootKeyFile = join(scratch, 'root.key');
    const once = { scratch, environment: { ...common, PANTHEON_AUTH_DATABASE_URL: stores.postgresUrl } };
    await runCommand(['migrate'], once);
    await runCommand(['bootstrap', '--out', rootKeyFile], once);
    await Promise.all(nodes.map((node) => node.start()));
    const client = await operator(nodes, history, readFileSync(rootKeyFile, 'latin1').trim());
    return { nodes, stores, history, client, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The clients use a key of their own, which nobody ends: whoever refuses it is wrong. */
async function operator(nodes: readonly ServiceNode[], history: History, rootKey: string): Promise<FaultClient> {
  const root = new FaultClient({ name: 'root', history, credential: rootKey });
  const [first] = nodes;
  const made = first === undefined ? null : await root.create(first, 'operator', { permissions: ['pantheon:keys:*'] });
  if (made === null) throw new Error(`The key of the clients was not made: ${first?.logTail()}`);
  return new FaultClient({ name: 'operator', history, credential: newest(made) });
}

/**
 * Judges what happened since a mark, with everything healed: every node is asked for every key it should know, and is
 * shown the secrets of some.
 */
export async function judge(
  { nodes, history, client }: Cluster,
  mark: number,
  options: { readonly prng: Prng; readonly keys: readonly TestKey[] },
): Promise<readonly Violation[]> {
  const keyIds = new Set(history.since(mark).map(({ keyId }) => keyId));
  keyIds.delete('');
  const endings = await Promise.all(nodes.map((node) => client.finalStates(node, keyIds)));
  const shown = options.prng.fork('ending').shuffled(options.keys).slice(0, SHOWN_KEYS_MAX);
  await inParallel(SHOW_WORKERS, shown.length, async (index) => {
    const key = shown[index];
    if (key === undefined) return;
    for (const node of nodes) for (const secret of key.secrets) await client.verify(node, key, secret);
  });
  return checkHistory(history.since(mark), endings.flat());
}
