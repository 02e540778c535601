/** For each test file of the project `postgres`. */
import { beforeEach, expect, inject } from 'vitest';

// Without a server every test is skipped, which the start of the run said aloud.
beforeEach((context) => {
  context.skip(inject('postgresTemplate') === null, inject('postgresMissing') ?? 'no PostgreSQL');
});

// Bytes are bytes: those that the driver answers are of a class of their own, below `Uint8Array`.
expect.addEqualityTesters([
  (one, other) =>
    one instanceof Uint8Array && other instanceof Uint8Array ? Buffer.compare(one, other) === 0 : undefined,
]);
