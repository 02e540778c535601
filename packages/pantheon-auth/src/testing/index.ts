/**
 * For the tests of those who build on this: an instance that is thrown away, and time that is moved by hand. Arbitrary
 * values of the domain, for property tests with `fast-check`, are in `pantheon-auth/testing/arbitraries`.
 */
export { openScratchDatabase, type ScratchDatabase, scratchFolder } from './scratch-database.ts';
export { type TestAuth, type TestAuthOptions, testAuth } from './test-auth.ts';
export { TestClock } from './test-clock.ts';
