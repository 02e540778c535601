/** A temporary instance for a test, with a clock that the test controls. */
import { accessSync, constants, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AppTypes } from '../domain/app-types.ts';
import type { EmbeddedOptions } from '../engine/options.ts';
import { createPantheonAuth, type PantheonAuth } from '../pantheon-auth.ts';
import { TestClock } from './test-clock.ts';

/** The options of an embedded instance, except the paths of its data and the clock. */
export type TestAuthOptions = Partial<Omit<EmbeddedOptions, 'dataDir' | 'databaseFile' | 'database' | 'clock'>> & {
  /** Default: a clock that stands at 2030-01-01T00:00:00Z until it is advanced. */
  readonly clock?: TestClock;
};

export interface TestAuth<App extends AppTypes = AppTypes> extends AsyncDisposable {
  readonly auth: PantheonAuth<App>;
  /** The clock of the instance. Tokens, overlaps and limits expire when it is advanced. */
  readonly clock: TestClock;
  /** Closes the instance and deletes its data. `await using` does the same. */
  close(): Promise<void>;
}

/**
 * The date of the template databases: earlier than any clock of a test, because a database does not open with a clock
 * behind its recorded time.
 */
const MADE_AT = Date.UTC(2001, 0, 1);
/** The in-memory file system of Linux. */
const IN_MEMORY = '/dev/shm';

/**
 * Creates a complete instance for a test. Its database is in memory if the system has `/dev/shm`, otherwise in a
 * temporary folder. The first instance of a process creates signing keys, which takes some hundred milliseconds. Later
 * ones start from a copy of its database in some tens of milliseconds, and so have the same signing keys.
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
    // With its own master key the instance cannot use the template, which was created with another one.
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

/** A database that was started once, as template. Deleted at the end of the process. */
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
