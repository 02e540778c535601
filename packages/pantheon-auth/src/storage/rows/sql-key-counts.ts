/** How many keys of each tenant are not revoked, kept with every commit: a count of rows would read them all. */
import type { Transaction } from 'kysely';
import type { EventRow } from '../../events/ledger.ts';
import { PantheonError } from '../../foundation/errors.ts';
import type { Tables } from '../tables.ts';

/**
 * Keys of one tenant that are not revoked. A tenth of the ten million keys that a database is designed for, so that one
 * tenant cannot use all of it.
 */
export const KEYS_PER_TENANT_MAX = 1_000_000;

/**
 * Counts what these events make and end. A key is created once and revoked once, so its events count it exactly. Tenants
 * in one order everywhere: of two commits that meet, one waits for the other.
 *
 * @throws PantheonError `too_many_keys` when one would have more than `max`; fewer is always possible.
 */
export async function countKeys(
  transaction: Transaction<Tables>,
  events: readonly EventRow[],
  max: number,
): Promise<void> {
  const changes = new Map<string, number>();
  for (const { type, tenantId } of events) {
    const change = type === 'key.created' ? 1 : type === 'key.revoked' ? -1 : 0;
    if (change !== 0) changes.set(tenantId, (changes.get(tenantId) ?? 0) + change);
  }
  for (const [tenantId, change] of [...changes].toSorted(([one], [other]) => (one < other ? -1 : 1))) {
    const { keys } = await transaction
      .insertInto('key_counts')
      .values({ tenant_id: tenantId, keys: change })
      .onConflict((conflict) =>
        conflict.column('tenant_id').doUpdateSet((eb) => ({ keys: eb('key_counts.keys', '+', change) })),
      )
      .returning('keys')
      .executeTakeFirstOrThrow();
    if (change > 0 && keys > max) {
      const detail = `A tenant has at most ${max} keys that are not revoked. Revoke those that nobody needs.`;
      throw new PantheonError('too_many_keys', { detail });
    }
  }
}
