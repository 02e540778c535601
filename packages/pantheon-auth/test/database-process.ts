/** Processes with the database of a test open and no engine, which a test can kill. With an engine: `engine-process.ts`. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { type ScratchDatabase, STORE } from './store.ts';

const moduleOf = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);

/** What every child begins with: `db`, `clock`, `tell(text)`, `load(path in src)`, and its arguments. */
const PRELUDE = `
  const load = (path) => import(new URL(path, ${moduleOf('../src/')}).href);
  const { NonDecreasingClock, systemClock } = await load('foundation/clock.ts');
  const clock = new NonDecreasingClock(systemClock);
  const [location, ...args] = process.argv.slice(1);
  const tell = (text) => process.stdout.write(text + '\\n');
  const db = ${
    STORE === 'postgres'
      ? `await (await load('storage/postgres/postgres.ts')).postgres({ url: location }).open({ clock, onWarning: () => {} })`
      : `await (await load('storage/sqlite/sqlite.ts')).openSqlite({ path: location, clock, reserve: { bytes: 0 } })`
  };
`;

export interface DatabaseProcess extends AsyncDisposable {
  readonly child: ChildProcessWithoutNullStreams;
  /** The lines of its output so far. */
  readonly lines: string[];
  /** Kills it with SIGKILL, and waits until it has ended. */
  kill(): Promise<void>;
}

/** Use it with `await using`. */
export function startOnDatabase(
  scratch: Pick<ScratchDatabase, 'location'>,
  source: string,
  args: readonly string[] = [],
): DatabaseProcess {
  const flags = ['--conditions=source', '--input-type=module', '-e', PRELUDE + source, '--', scratch.location, ...args];
  const child = spawn(process.execPath, flags);
  child.stderr.pipe(process.stderr);
  const closed = once(child, 'close');
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => void lines.push(line));
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await closed;
  };
  return { child, lines, kill, [Symbol.asyncDispose]: kill };
}
