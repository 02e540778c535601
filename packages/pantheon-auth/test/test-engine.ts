/**
 * The fixture for tests that need a running engine: an instance on a database of its own, with a clock that the test
 * moves. It also gives what another process would have: a second node, statements past the engine, a process that can be
 * killed. Whether the database is SQLite or PostgreSQL is decided by the project of the run.
 */
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { EmbeddedOptions, PantheonAuthOptions } from '../src/engine/options.ts';
import { type Clock, type Instant, systemClock } from '../src/foundation/clock.ts';
import { createPantheonAuth, type PantheonAuth } from '../src/pantheon-auth.ts';
import { writeTemplateData } from '../src/testing/template-data.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { STALENESS_MAX_MS_DEFAULT } from '../src/verification/key-lookup.ts';
import { startProcess, startProcessOnPostgres } from './engine-process.ts';
import { ISSUER, MASTER_KEY, postgresNode } from './postgres-node.ts';
import { scratchPostgres } from './postgres-scratch.ts';
import { inFile, type SqlValue, STORE } from './store.ts';

export { ISSUER } from './postgres-node.ts';

/** The options that a test may set. The fixture chooses the database. */
type TestEngineOptions = Partial<Omit<EmbeddedOptions, 'database'>>;

export interface TestEngine extends AsyncDisposable {
  readonly auth: PantheonAuth;
  readonly clock: TestClock;
  /** Options that open another instance on the same database. */
  readonly options: PantheonAuthOptions;
  /** A folder of the test's own. The database is in it, if that is a file. */
  readonly dataDir: string;
  /** The master key in hexadecimal. */
  readonly masterKey: string;
  /** Every line of the log. */
  readonly logged: string[];
  /** Opens another node on the same database, as another process would. Closed with the first. */
  openAgain(options?: TestEngineOptions): Promise<PantheonAuth>;
  /**
   * Waits until every node has applied all changes: on SQLite one turn of the event loop, on PostgreSQL the staleness that
   * I4 allows.
   */
  propagate(): Promise<void>;
  /** Runs a statement past the engine, and answers its rows. `?` stands for a value, `?1` for the first. */
  sql(text: string, ...values: readonly SqlValue[]): Promise<Record<string, unknown>[]>;
  /** All bytes that are stored, as text in which ASCII can be searched. */
  stored(): Promise<string>;
  /** Starts another process on this database; see `engine-process.ts`. Its clock starts when that of the test did. */
  startProcess(source: string, args?: readonly string[]): ChildProcessWithoutNullStreams;
  /** Closes every node and deletes the database. `await using` does the same. */
  close(): Promise<void>;
}

/** Use it with `await using`, or call `close` in `afterAll`. */
export async function openTestEngine(options: TestEngineOptions = {}): Promise<TestEngine> {
  const clock = new TestClock();
  const logged: string[] = [];
  const log = (fields: object, message: string): void => {
    logged.push(`${JSON.stringify(fields, withErrors)} ${message}`);
  };
  const database = STORE === 'postgres' ? await databaseOnPostgres() : await databaseInFolder();
  const common = { issuer: ISSUER, clock, logger: { warn: log, error: log }, ...options };
  const opened: PantheonAuth[] = [];
  const open = async (more: TestEngineOptions): Promise<PantheonAuth> => {
    const auth = await createPantheonAuth({ ...database.options, ...common, ...more } as PantheonAuthOptions);
    opened.push(auth);
    return auth;
  };
  const close = async (): Promise<void> => {
    try {
      for (const one of opened) await one.close();
    } finally {
      await database[Symbol.asyncDispose]();
    }
  };
  return {
    ...database,
    options: { ...database.options, issuer: ISSUER } as PantheonAuthOptions,
    auth: await open({}),
    clock,
    logged,
    openAgain: (more = {}) => open(more),
    async propagate() {
      await turn();
      if (STORE === 'postgres') clock.advance(STALENESS_MAX_MS_DEFAULT + 1);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Waits until a message of another node on the same file has arrived: that takes at least a turn of the event loop. */
export async function turn(): Promise<void> {
  await nextTurn();
}

/** When the clock of a test engine starts. */
const START: Instant = new TestClock().now();

/** A clock that runs like the machine's, from `start` on. For nodes beside a test engine: none may be behind its time. */
export function clockFrom(start: Instant = START): Clock {
  const aheadMs = start - systemClock.now();
  return { now: () => systemClock.now() + aheadMs, monotonicMs: () => systemClock.monotonicMs() };
}

/** A new temporary folder; the caller removes it. */
export function emptyFolder(): string {
  return mkdtempSync(join(tmpdir(), 'pantheon-auth-'));
}

/** A database that an engine has been started on before. */
interface StartedDatabase
  extends Pick<TestEngine, 'options' | 'dataDir' | 'masterKey' | 'sql' | 'stored' | 'startProcess'>,
    AsyncDisposable {}

async function databaseInFolder(): Promise<StartedDatabase> {
  const dataDir = emptyFolder();
  await writeTemplateData(dataDir);
  const path = join(dataDir, 'pantheon-auth.db');
  return {
    options: { dataDir, issuer: ISSUER },
    dataDir,
    masterKey: readFileSync(join(dataDir, 'master.key'), 'latin1').trim(),
    sql: (text, ...values) => inFile(path, text, values),
    stored: async () => contentsOf(dataDir),
    startProcess: (source, args) => startProcess(dataDir, source, args, START),
    async [Symbol.asyncDispose]() {
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

async function databaseOnPostgres(): Promise<StartedDatabase> {
  const scratch = await scratchPostgres('started');
  const dataDir = emptyFolder();
  return {
    options: postgresNode(scratch.url),
    dataDir,
    masterKey: MASTER_KEY,
    sql: (text, ...values) => scratch.sql(text, ...values),
    stored: () => scratch.stored(),
    startProcess: (source, args) => startProcessOnPostgres(scratch.url, source, args, START),
    async [Symbol.asyncDispose]() {
      rmSync(dataDir, { recursive: true, force: true });
      await scratch[Symbol.asyncDispose]();
    },
  };
}

/** Like pino: an error is written with its message, its stack and its cause. */
function withErrors(_name: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  return { ...value, message: value.message, stack: value.stack, cause: value.cause };
}

/** All bytes of the files of the database, as text in which ASCII can be searched. */
function contentsOf(dataDir: string): string {
  return readdirSync(dataDir)
    .filter((name) => name.startsWith('pantheon-auth.db'))
    .map((name) => readFileSync(join(dataDir, name), 'latin1'))
    .join('\n');
}
