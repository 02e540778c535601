/** A temporary instance for a test, with a clock that the test controls. */
import type { AppTypes } from '../domain/app-types.ts';
import type { EmbeddedOptions } from '../engine/options.ts';
import { createPantheonAuth, type PantheonAuth } from '../pantheon-auth.ts';
import { memoryFolder, removeFolder, TEMPLATE_ISSUER, TEMPLATE_TIME, writeTemplateData } from './template-data.ts';
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
  const dataDir = memoryFolder();
  let auth: PantheonAuth<App>;
  try {
    // With its own master key the instance cannot use the template, which was created with another one.
    const hasOwnKey = rest.masterKey !== undefined || rest.masterKeyFile !== undefined;
    if (!hasOwnKey && clock.now() >= TEMPLATE_TIME) await writeTemplateData(dataDir);
    auth = await createPantheonAuth<App>({ issuer: TEMPLATE_ISSUER, ...rest, dataDir, clock });
  } catch (error) {
    removeFolder(dataDir);
    throw error;
  }
  const close = async (): Promise<void> => {
    await auth.close();
    removeFolder(dataDir);
  };
  return { auth, clock, close, [Symbol.asyncDispose]: close };
}
