/**
 * Whether each connection has a session of its own. A pooler that lends sessions by transaction or by statement starts
 * well and breaks later: settings, locks and notifications of one node are then another's, or nobody's.
 */
import { PantheonError } from '../../foundation/errors.ts';
import type { ConnectionSource } from './postgres-dialect.ts';

/** By turns: of a pooler that shares, two connections that ask one after the other get the same session, or ever others. */
const ROUNDS = 4;

/** @throws PantheonError `store_unusable`. */
export async function assertOwnSessions(one: ConnectionSource, other: ConnectionSource): Promise<void> {
  const first = await one.acquire();
  try {
    const second = await other.acquire();
    try {
      const [ofFirst, ofSecond] = [new Set<number>(), new Set<number>()];
      for (let round = 0; round < ROUNDS; round += 1) {
        ofFirst.add(await first.backend());
        ofSecond.add(await second.backend());
      }
      // Each has one of its own, and no other.
      if (ofFirst.size !== 1 || ofSecond.size !== 1 || new Set([...ofFirst, ...ofSecond]).size !== 2)
        throw sharedSessions();
    } finally {
      other.release(second);
    }
  } finally {
    one.release(first);
  }
}

function sharedSessions(): PantheonError {
  const detail =
    'A pooler between this machine and PostgreSQL shares sessions between connections. ' +
    'Use one that keeps them (PgBouncer: pool_mode = session), or the address of PostgreSQL itself.';
  return new PantheonError('store_unusable', { field: 'database.url', detail });
}
