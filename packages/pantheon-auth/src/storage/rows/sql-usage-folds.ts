/**
 * Adds up the uses of versions that are no longer reported separately in one row of their key. Otherwise a key that
 * rotates itself every hour would have nine thousand rows a year.
 */
import type { Transaction } from 'kysely';
import { VERSIONS_KEPT_MAX } from '../../domain/key.ts';
import { addCounts, latestUse } from '../../usage/usage-rows.ts';
import type { SqlDialect } from '../dialect.ts';
import type { Tables } from '../tables.ts';
import { countPlus, laterTime, soundCount, soundTime, UNKNOWN_TIME } from './sql-usage-numbers.ts';

/** The `version` of the row that all older ones of a key are added to. Versions begin at 1. */
export const FOLDED_VERSION = 0;

/**
 * Adds the uses of the oldest versions to one row and deletes their own rows, at most `limit` of them; returns how
 * many. The rows of the newest used versions stay, as many as a key keeps versions. The sum over all rows does not
 * change. A later use of a folded version creates a row for it again, which is folded too.
 */
export async function foldOldVersions(
  transaction: Transaction<Tables>,
  { keyId, limit, dialect }: { readonly keyId: string; readonly limit: number; readonly dialect: SqlDialect },
): Promise<number> {
  const ofKey = transaction
    .selectFrom('version_usage')
    .where('key_id', '=', keyId)
    // A row with a damaged version stays as it is: its uses are part of the sum over all rows.
    .where((eb) => eb.between('version', FOLDED_VERSION + 1, Number.MAX_SAFE_INTEGER));
  const oldestKept = await ofKey
    .select('version')
    .orderBy('version', 'desc')
    .offset(VERSIONS_KEPT_MAX - 1)
    .limit(1)
    .executeTakeFirst();
  if (oldestKept === undefined) return 0;
  // Locked, so that no use is added to a row between reading and deleting it; in the same order as batches lock rows.
  const old = await dialect
    .lockRows(
      ofKey
        .select((eb) => [
          'tenant_id',
          'version',
          soundCount(eb.ref('usage_count')).as('usage_count'),
          soundTime(eb.ref('last_used_at')).as('last_used_at'),
        ])
        .where('version', '<', oldestKept.version)
        .orderBy('version')
        .limit(limit),
    )
    .execute();
  const [first] = old;
  if (first === undefined) return 0;
  await transaction
    .insertInto('version_usage')
    .values({
      tenant_id: first.tenant_id,
      key_id: keyId,
      version: FOLDED_VERSION,
      usage_count: old.reduce((sum, row) => addCounts(sum, row.usage_count), 0),
      last_used_at: latestUse(old.map((row) => row.last_used_at)) ?? UNKNOWN_TIME,
      last_addresses: '[]',
    })
    .onConflict((conflict) =>
      conflict.columns(['key_id', 'version']).doUpdateSet((eb) => ({
        usage_count: countPlus(eb.ref('version_usage.usage_count'), eb.ref('excluded.usage_count')),
        last_used_at: laterTime(eb.ref('version_usage.last_used_at'), eb.ref('excluded.last_used_at')),
      })),
    )
    .execute();
  const versions = old.map((row) => row.version);
  await transaction
    .deleteFrom('version_usage')
    .where('key_id', '=', keyId)
    .where((eb) => dialect.isOneOfNumbers(eb.ref('version'), versions))
    .execute();
  return old.length;
}
