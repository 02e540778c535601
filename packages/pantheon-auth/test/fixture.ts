/**
 * A running instance for tests that cross files: on a database of its own, with time that is moved by hand, and with what
 * another process would have: a second node, a statement behind everybody's back, a child that can be killed. Which
 * database that is, is the project's business.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll } from 'vitest';
import type { APIKey } from '../src/api-keys/api-key.ts';
import type { CreateKeyInput } from '../src/api-keys/key-input.ts';
import type { Authority, Caller } from '../src/domain/key-policy.ts';
import type { EmbeddedOptions, PantheonAuthOptions } from '../src/engine/options.ts';
import { type Clock, type Instant, systemClock } from '../src/foundation/clock.ts';
import { PantheonError } from '../src/foundation/errors.ts';
import { createPantheonAuth, type PantheonAuth } from '../src/pantheon-auth.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { STALENESS_MAX_MS_DEFAULT } from '../src/verification/key-lookup.ts';
import { ISSUER, MASTER_KEY, postgresNode, statementWatchers } from './postgres-node.ts';
import { scratchPostgres } from './postgres-scratch.ts';
import { inFile, type SqlValue, STORE } from './store.ts';

export { ISSUER } from './postgres-node.ts';

/** What a test may change of an instance; where its data lies is the world's business. */
type NodeOptions = Partial<Omit<EmbeddedOptions, 'database'>>;

export interface World extends AsyncDisposable {
  readonly auth: PantheonAuth;
  readonly clock: TestClock;
  /** Where its data lies, for whoever opens it in another way. */
  readonly options: PantheonAuthOptions;
  /** A folder of its own: of the database, where that is a file. */
  readonly dataDir: string;
  /** The master key, as it is written down. */
  readonly masterKey: string;
  /** Everything that was logged, as it would be written. */
  readonly logged: string[];
  /** Another node on the same database, as another process would be. Closed with the first. */
  openAgain(options?: NodeOptions): Promise<PantheonAuth>;
  /**
   * From here on every node knows of what was changed on any: with the next message between processes on one file, after
   * the bound of I4 elsewhere.
   */
  everywhere(): Promise<void>;
  /** Runs a statement behind everybody's back, and answers its rows. `?` stands for a value, `?1` for the first. */
  sql(text: string, ...values: readonly SqlValue[]): Promise<Record<string, unknown>[]>;
  /** All bytes that are stored, as text in which ASCII can be searched. */
  stored(): Promise<string>;
  /** A process of its own on this database. `source` finds `auth`, its arguments as `args`, and `next()` for a line of input. */
  startProcess(source: string, args?: readonly string[]): ChildProcessWithoutNullStreams;
}

/** Use it with `await using`. */
export async function openWorld(options: NodeOptions = {}): Promise<World> {
  const clock = new TestClock();
  const logged: string[] = [];
  const log = (fields: object, message: string): void => {
    logged.push(`${JSON.stringify(fields, errorsToo)} ${message}`);
  };
  const place = STORE === 'postgres' ? await placeOnPostgres() : await placeInFolder();
  const common = { issuer: ISSUER, clock, logger: { warn: log, error: log }, ...options };
  const opened: PantheonAuth[] = [];
  const open = async (more: NodeOptions): Promise<PantheonAuth> => {
    const auth = await createPantheonAuth({ ...place.options, ...common, ...more } as PantheonAuthOptions);
    opened.push(auth);
    return auth;
  };
  return {
    ...place,
    options: { ...place.options, issuer: ISSUER } as PantheonAuthOptions,
    auth: await open({}),
    clock,
    logged,
    openAgain: (more = {}) => open(more),
    async everywhere() {
      await nextTurn();
      if (STORE === 'postgres') clock.advance(STALENESS_MAX_MS_DEFAULT + 1);
    },
    async [Symbol.asyncDispose]() {
      for (const one of opened) await one.close();
      await place[Symbol.asyncDispose]();
    },
  };
}

/** Where the data of a world lies. */
interface Place
  extends Pick<World, 'options' | 'dataDir' | 'masterKey' | 'sql' | 'stored' | 'startProcess'>,
    AsyncDisposable {}

async function placeInFolder(): Promise<Place> {
  const dataDir = emptyFolder();
  cpSync(await template(), dataDir, { recursive: true });
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

async function placeOnPostgres(): Promise<Place> {
  const scratch = await scratchPostgres('started');
  const dataDir = emptyFolder();
  return {
    options: postgresNode(scratch.url),
    dataDir,
    masterKey: MASTER_KEY,
    sql: (text, ...values) => scratch.sql(text, ...values),
    stored: () => scratch.stored(),
    startProcess: (source, args = []) => startNode(openOnPostgres, [scratch.url, MASTER_KEY], source, args, START),
    async [Symbol.asyncDispose]() {
      rmSync(dataDir, { recursive: true, force: true });
      await scratch[Symbol.asyncDispose]();
    },
  };
}

/** Like pino: an error is written with its message, its stack and its cause. */
function errorsToo(_name: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  return { ...value, message: value.message, stack: value.stack, cause: value.cause };
}

/** A new temporary folder; the caller removes it. */
export function emptyFolder(): string {
  return mkdtempSync(join(tmpdir(), 'pantheon-auth-'));
}

let made: Promise<string> | null = null;
afterAll(async () => {
  if (made !== null) rmSync(await made, { recursive: true, force: true });
});

/** A folder that has been started once: its RSA key alone takes longer to make than most tests run. */
function template(): Promise<string> {
  made ??= (async () => {
    const dataDir = emptyFolder();
    // In the past of every clock that is used here, so that none is taken for one that was set back.
    const clock = new TestClock(Date.UTC(2025, 0, 1));
    await (await createPantheonAuth({ dataDir, issuer: ISSUER, clock })).close();
    return dataDir;
  })();
  return made;
}

type KeyAuthority = Extract<Authority, { kind: 'key' }>;
/** Whose authority it is. With `apiKey`: of a key that exists, by the string of its first version. */
type CallerInput = Partial<KeyAuthority> & { readonly apiKey?: Pick<APIKey, 'id' | 'createdAt'> };

/** A caller with this key's authority. */
export function callerWith({ apiKey, ...over }: CallerInput): Caller {
  const authority = { ...(apiKey && { keyId: apiKey.id, secretMadeAt: apiKey.createdAt.getTime() }), ...over };
  return {
    authority: {
      kind: 'key',
      via: 'api_key',
      secretMadeAt: 0,
      version: 1,
      keyId: 'CallerCallerCall',
      tenantId: 'default',
      permissions: ['pantheon:*'],
      grantable: ['*'],
      expiresAt: null,
      ipAllowlist: [],
      ...authority,
    } as KeyAuthority,
    auditContext: {
      actor: {
        keyId: authority.keyId ?? 'CallerCallerCall',
        userId: 'caller',
        address: '192.0.2.1',
        userAgent: 'test',
      },
      requestId: 'request-1',
      reason: null,
    },
  };
}

/** A new key of the tenant, and the caller that it makes. */
export async function keyAndCaller(
  world: Pick<World, 'auth'>,
  tenantId: string,
  input: Partial<CreateKeyInput> = {},
): Promise<{ readonly id: string; readonly key: string; readonly by: Caller }> {
  const { apiKey, key } = await world.auth.tenant(tenantId).keys.create({ ...A_KEY, ...input });
  const { permissions, grantable, ipAllowlist } = apiKey;
  const expiresAt = apiKey.expiresAt?.getTime() ?? null;
  const by = callerWith({ apiKey, tenantId, permissions, grantable, expiresAt, ipAllowlist });
  return { id: apiKey.id, key, by };
}

const A_KEY: CreateKeyInput = { userId: 'u', name: 'n', permissions: ['docs:read'] };

/** What a call throws, as a value. */
export async function refusalOf(work: Promise<unknown> | (() => unknown)): Promise<PantheonError> {
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    if (error instanceof PantheonError) return error;
    throw error;
  }
  throw new Error('Nothing was thrown.');
}

/** Counts what runs in the store while it is in use. Asking for the head is counted apart: it is allowed before every yes. */
export class StatementCount implements Disposable {
  reads = 0;
  writes = 0;
  heads = 0;
  readonly #restore: () => void;

  constructor() {
    this.#restore = STORE === 'postgres' ? watchPostgres(this) : watchSqlite(this);
  }

  [Symbol.dispose](): void {
    this.#restore();
  }
}

/** The ends of transactions, and what a new connection asks before anything else. */
const NO_STATEMENT = /^(begin|commit|rollback)|server_version_num/;
/** The head, and what came after a place: asked for by the node itself, whatever is used meanwhile. */
const FOLLOWING = /from "log_head"|from "events" where "seq" >= /;

function watchPostgres(count: StatementCount): () => void {
  const watch = (sql: string): void => {
    if (NO_STATEMENT.test(sql)) return;
    if (!sql.startsWith('select')) count.writes += 1;
    else if (FOLLOWING.test(sql)) count.heads += 1;
    else count.reads += 1;
  };
  statementWatchers.add(watch);
  return () => statementWatchers.delete(watch);
}

function watchSqlite(count: StatementCount): () => void {
  const { all, get, run } = StatementSync.prototype;
  StatementSync.prototype.all = function (...values) {
    count.reads += 1;
    return Reflect.apply(all, this, values) as ReturnType<typeof all>;
  };
  StatementSync.prototype.run = function (...values) {
    count.writes += 1;
    return Reflect.apply(run, this, values) as ReturnType<typeof run>;
  };
  StatementSync.prototype.get = function (...values) {
    if (this.sourceSQL.includes('log_head')) count.heads += 1;
    else count.reads += 1;
    return Reflect.apply(get, this, values) as ReturnType<typeof get>;
  };
  return () => Object.assign(StatementSync.prototype, { all, get, run });
}

/** Messages between processes take at least a turn of the event loop. */
export async function turn(): Promise<void> {
  await nextTurn();
}

/** All bytes of the files in a folder, as text in which ASCII can be searched. */
function contentsOf(dataDir: string): string {
  return readdirSync(dataDir)
    .filter((name) => name.startsWith('pantheon-auth.db'))
    .map((name) => readFileSync(join(dataDir, name), 'latin1'))
    .join('\n');
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

/** When the clocks of a world start. */
const START: Instant = new TestClock().now();

/** The clock of the machine as it would run from `start` on: for what follows a world, whose time no process may be behind. */
export function clockFrom(start: Instant = START): Clock {
  const aheadMs = start - systemClock.now();
  return { now: () => systemClock.now() + aheadMs, monotonicMs: () => systemClock.monotonicMs() };
}

/** A process of its own on this folder. `start`: when its clock starts; else it is the machine's. */
export function startProcess(
  dataDir: string,
  source: string,
  args: readonly string[] = [],
  start: Instant | null = null,
): ChildProcessWithoutNullStreams {
  return startNode(openInFolder, [dataDir], source, args, start);
}

function startNode(
  open: string,
  place: readonly string[],
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
  const flags = ['--conditions=source', '--input-type=module', '-e', prelude + source, '--', ...place, ...args];
  return spawn(process.execPath, flags);
}
