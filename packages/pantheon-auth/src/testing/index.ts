/**
 * Helpers for tests of applications: a temporary instance, and a clock that the test controls. Arbitrary values for
 * property tests with `fast-check` are in `pantheon-auth/testing/arbitraries`.
 */
export { openScratchDatabase, type ScratchDatabase, scratchFolder } from './scratch-database.ts';
export { type TestAuth, type TestAuthOptions, testAuth } from './test-auth.ts';
export { TestClock } from './test-clock.ts';
