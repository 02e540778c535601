/** The error of a call that must be refused. */
import { PantheonError } from '../src/foundation/errors.ts';

/** The error that a call throws. A call that throws none, or another kind of error, fails the test. */
export async function refusalOf(work: Promise<unknown> | (() => unknown)): Promise<PantheonError> {
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    if (error instanceof PantheonError) return error;
    throw error;
  }
  throw new Error('Nothing was thrown.');
}
