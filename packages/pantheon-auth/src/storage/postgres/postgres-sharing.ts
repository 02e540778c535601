/**
 * Checks that each connection has its own session. With a pooler that shares sessions by transaction or statement,
 * settings, locks and notifications would get lost or affect other nodes.
 */
import { PantheonError } from '../../foundation/errors.ts';
import type { ConnectionSource } from './postgres-dialect.ts';

/**
 * Alternating queries on two connections: with a pooler that shares sessions, both get the same session, or changing
 * ones.
 */
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
      // Each connection must always have its own session.
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
