/** Processes with an engine of their own, which a test can kill. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import type { Instant } from '../src/foundation/clock.ts';
import { ISSUER, MASTER_KEY } from './postgres-node.ts';

/**
 * Starts a process with an engine on this folder. `source` runs there with `auth`, its arguments as `args`, and `next()`
 * for the next line of its input. `start` is when its clock starts; without it, it has the clock of the machine.
 */
export function startProcess(
  dataDir: string,
  source: string,
  args: readonly string[] = [],
  start: Instant | null = null,
): ChildProcessWithoutNullStreams {
  return startNode(openInFolder, [dataDir], source, args, start);
}

/** Starts a process with an engine on this PostgreSQL database, as `startProcess` does on a folder. */
export function startProcessOnPostgres(
  url: string,
  source: string,
  args: readonly string[] = [],
  start: Instant | null = null,
): ChildProcessWithoutNullStreams {
  return startNode(openOnPostgres, [url, MASTER_KEY], source, args, start);
}

const moduleOf = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);

const openInFolder = `
  const [dataDir, ...args] = process.argv.slice(1);
  const auth = await createPantheonAuth({ dataDir, clock, issuer: ${JSON.stringify(ISSUER)} });
`;
const openOnPostgres = `
  const { postgres } = await import(${moduleOf('../src/storage/postgres/postgres.ts')});
  const { withoutStoreTime } = await import(${moduleOf('./postgres-node.ts')});
  const [url, masterKey, ...args] = process.argv.slice(1);
  const common = { issuer: ${JSON.stringify(ISSUER)}, masterKey, clock, limits: 'local' };
  const auth = await createPantheonAuth({ database: withoutStoreTime(postgres({ url })), ...common });
`;

function startNode(
  open: string,
  database: readonly string[],
  source: string,
  args: readonly string[],
  start: Instant | null,
): ChildProcessWithoutNullStreams {
  const prelude = `
    import { createInterface } from 'node:readline';
    const { createPantheonAuth } = await import(${moduleOf('../src/pantheon-auth.ts')});
    const aheadMs = ${start === null ? 0 : `${start} - Date.now()`};
    const clock = { now: () => Date.now() + aheadMs, monotonicMs: () => performance.now() };
    ${open}
    let lines = null;
    const next = async () => {
      lines ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
      return (await lines.next()).value;
    };
  `;
  const flags = ['--conditions=source', '--input-type=module', '-e', prelude + source, '--', ...database, ...args];
  return spawn(process.execPath, flags);
}
