/**
 * A running instance for tests that cross files: in a folder of its own, with time that is moved by hand, and with what
 * another process would have: a second instance on the same folder, a raw connection, a child that can be killed.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync, StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll } from 'vitest';
import type { Authority, Caller } from '../src/domain/key-policy.ts';
import { PantheonError } from '../src/foundation/errors.ts';
import { createPantheonAuth, type PantheonAuth, type PantheonAuthOptions } from '../src/pantheon-auth.ts';
import { TestClock } from '../src/testing/test-clock.ts';

export const ISSUER = 'https://auth.example.com';

export interface World extends AsyncDisposable {
  readonly auth: PantheonAuth;
  readonly clock: TestClock;
  readonly dataDir: string;
  /** Everything that was logged, as it would be written. */
  readonly logged: string[];
  /** Another instance on the same folder, as another process would be. Closed with the first. */
  openAgain(options?: Partial<PantheonAuthOptions>): Promise<PantheonAuth>;
  /** The file behind everybody's back. */
  raw<T>(work: (database: DatabaseSync) => T): T;
}

/** Use it with `await using`. */
export async function openWorld(options: Partial<PantheonAuthOptions> = {}): Promise<World> {
  const dataDir = emptyFolder();
  cpSync(await template(), dataDir, { recursive: true });
  const clock = new TestClock();
  const logged: string[] = [];
  const log = (fields: object, message: string): void => {
    logged.push(`${JSON.stringify(fields, errorsToo)} ${message}`);
  };
  const common = { dataDir, issuer: ISSUER, clock, logger: { warn: log, error: log }, ...options };
  const auth = await createPantheonAuth(common);
  const opened = [auth];
  return {
    auth,
    clock,
    dataDir,
    logged,
    async openAgain(more = {}) {
      const other = await createPantheonAuth({ ...common, ...more });
      opened.push(other);
      return other;
    },
    raw(work) {
      const database = new DatabaseSync(join(dataDir, 'pantheon-auth.db'));
      try {
        database.exec('pragma busy_timeout = 5000');
        return work(database);
      } finally {
        database.close();
      }
    },
    async [Symbol.asyncDispose]() {
      for (const one of opened) await one.close();
      rmSync(dataDir, { recursive: true, force: true });
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

/** A caller with this key's authority. */
export function callerWith(authority: Partial<Extract<Authority, { kind: 'key' }>>): Caller {
  return {
    authority: {
      kind: 'key',
      via: 'api_key',
      version: 1,
      keyId: 'CallerCallerCall',
      tenantId: 'default',
      permissions: ['pantheon:*'],
      grantable: ['*'],
      expiresAt: null,
      ipAllowlist: [],
      ...authority,
    },
    circumstances: {
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

/** Counts what runs in SQLite while it is in use. Reading the head is counted apart: it is allowed before every yes. */
export class StatementCount implements Disposable {
  reads = 0;
  writes = 0;
  heads = 0;
  readonly #restore: () => void;

  constructor() {
    const { all, get, run } = StatementSync.prototype;
    const count = this;
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
    this.#restore = () => Object.assign(StatementSync.prototype, { all, get, run });
  }

  [Symbol.dispose](): void {
    this.#restore();
  }
}

/** Messages between processes take at least a turn of the event loop. */
export async function turn(): Promise<void> {
  await nextTurn();
}

/** All bytes of the files in a folder, as text in which ASCII can be searched. */
export function contentsOf(dataDir: string): string {
  return readdirSync(dataDir)
    .filter((name) => name.startsWith('pantheon-auth.db'))
    .map((name) => readFileSync(join(dataDir, name), 'latin1'))
    .join('\n');
}

const MODULE = JSON.stringify(new URL('../src/pantheon-auth.ts', import.meta.url).href);

/** A process of its own on this folder. `source` finds `auth`, its arguments as `args`, and `next()` for a line of input. */
export function startProcess(
  dataDir: string,
  source: string,
  args: readonly string[] = [],
): ChildProcessWithoutNullStreams {
  const prelude = `
    import { createInterface } from 'node:readline';
    const [dataDir, ...args] = process.argv.slice(1);
    const { createPantheonAuth } = await import(${MODULE});
    const auth = await createPantheonAuth({ dataDir, issuer: ${JSON.stringify(ISSUER)} });
    let lines = null;
    const next = async () => {
      lines ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
      return (await lines.next()).value;
    };
  `;
  const flags = ['--conditions=source', '--input-type=module', '-e', prelude + source, '--', dataDir, ...args];
  return spawn(process.execPath, flags);
}
