/** A whole instance for one test, with time that is moved by hand, and nothing of it left afterwards. */
import { accessSync, constants, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AppTypes } from '../domain/app-types.ts';
import type { EmbeddedOptions } from '../engine/options.ts';
import { createPantheonAuth, type PantheonAuth } from '../pantheon-auth.ts';
import { TestClock } from './test-clock.ts';

/** As of an embedded instance. The clock is the one in the answer, the place of the data its own. */
export type TestAuthOptions = Partial<Omit<EmbeddedOptions, 'dataDir' | 'databaseFile' | 'database' | 'clock'>> & {
  /** Default: one that stands at 2030-01-01T00:00:00Z until it is moved. */
  readonly clock?: TestClock;
};

export interface TestAuth<App extends AppTypes = AppTypes> extends AsyncDisposable {
  readonly auth: PantheonAuth<App>;
  /** Its time. Tokens, overlaps and limits pass when it is advanced. */
  readonly clock: TestClock;
  /** Ends it and removes all that it had stored. The same as `await using`. */
  close(): Promise<void>;
}

/** Of the folders below, before every clock that a test would choose: no store is opened with a clock behind its own. */
const MADE_AT = Date.UTC(2001, 0, 1);
/** Where Linux keeps files in memory. */
const IN_MEMORY = '/dev/shm';

/**
 * An instance of its own for a test: whole, with its store in memory where the system has a place for files there
 * (`/dev/shm`), else in a temporary folder. The first one of a process makes signing keys, which takes some hundred
 * milliseconds; those after it start from a copy of that store, in a few tens, and so have the same signing keys.
 *
 * @example
 * ```ts
 * import { testAuth } from 'pantheon-auth/testing';
 *
 * await using test = await testAuth();
 * const { key } = await test.auth.keys.create({ userId: 'user-1', name: 'deploy', expiresIn: '1h' });
 * test.clock.advance(3_600_000);
 * const verification = await test.auth.verify({ key });
 * console.log(verification.valid); // false: it has expired
 * ```
 */
export async function testAuth<App extends AppTypes = AppTypes>(options: TestAuthOptions = {}): Promise<TestAuth<App>> {
  const { clock = new TestClock(), ...rest } = options;
  const dataDir = newFolder();
  let auth: PantheonAuth<App>;
  try {
    // A master key of the test's own opens no store that was made with another one.
    const hasOwnKey = rest.masterKey !== undefined || rest.masterKeyFile !== undefined;
    if (!hasOwnKey && clock.now() >= MADE_AT) cpSync(await template(), dataDir, { recursive: true });
    auth = await createPantheonAuth<App>({ issuer: ISSUER, ...rest, dataDir, clock });
  } catch (error) {
    remove(dataDir);
    throw error;
  }
  const close = async (): Promise<void> => {
    await auth.close();
    remove(dataDir);
  };
  return { auth, clock, close, [Symbol.asyncDispose]: close };
}

const ISSUER = 'https://auth.example.com';

let made: Promise<string> | null = null;

/** A store that was started once. It goes with the process. */
function template(): Promise<string> {
  made ??= (async () => {
    const dataDir = newFolder();
    process.once('exit', () => remove(dataDir));
    await (await createPantheonAuth({ dataDir, issuer: ISSUER, clock: new TestClock(MADE_AT) })).close();
    return dataDir;
  })();
  return made;
}

function newFolder(): string {
  return mkdtempSync(join(isWritable(IN_MEMORY) ? IN_MEMORY : tmpdir(), `pantheon-auth-test-${process.pid}-`));
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function remove(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
