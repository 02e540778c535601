/** Usage: counts by minute and outcome, and the last use of each version. Stored in batches, each of them once. */
import type { Kysely, Transaction } from 'kysely';
import { VERSIONS_KEPT_MAX } from '../../domain/key.ts';
import { type Lane, operational } from '../../events/write-lanes.ts';
import { DAY_MS } from '../../foundation/clock.ts';
import { ADDRESSES_PER_VERSION_MAX } from '../../usage/usage-buffer.ts';
import {
  addCounts,
  type KeyUsage,
  latestUse,
  type PendingUsage,
  type StoredUsage,
  type UsageBatch,
  type UsageCount,
  type UsageQuery,
  type UsageRows,
  type UsageStep,
  type UsageSum,
} from '../../usage/usage-rows.ts';
import type { SqlDialect } from '../dialect.ts';
import { prepareBatch } from '../statement.ts';
import type { KeyUsageRow, Tables, TenantUsageRow, UsageCountRow, VersionUsageRow } from '../tables.ts';
import type { WriteQueue } from '../write-queue.ts';
import { lookAtUsed } from './sql-key-schedule-rows.ts';
import { FOLDED_VERSION, foldOldVersions } from './sql-usage-folds.ts';
import { countPlus, laterTime, soundCount, soundTime, sumOfCounts } from './sql-usage-numbers.ts';
import {
  type AddRows,
  compileAddToKeys,
  compileAddToTenants,
  keySums,
  pruneStep,
  readSums,
  tenantSums,
  type Values,
} from './sql-usage-sums.ts';

/** A batch is retried for minutes at most, so its id is of no use after this. */
export const BATCH_IDS_KEPT_MS: number = DAY_MS;
/** Old ids deleted with each batch: more than one, so that their number decreases after a burst. */
const BATCH_IDS_PRUNED_MAX = 100;
/** The versions whose usage is reported: as many as a key keeps. */
const VERSIONS_READ_MAX: number = VERSIONS_KEPT_MAX;
/** The most rows of one key that are added up here. Old versions are folded, so there are usually about ten. */
const ROWS_ADDED_UP_MAX = 100;
/** About 1 MB. The old versions of a key that does not fit are folded after its next rotation. */
const KEYS_TO_FOLD_MAX = 10_000;

export class SqlUsageRows implements UsageRows {
  readonly #reads: Readonly<Record<Lane, Kysely<Tables>>>;
  readonly #scan: Kysely<Tables>;
  readonly #writer: WriteQueue;
  readonly #dialect: SqlDialect;
  readonly #addCounts: AddRows<UsageCountRow>;
  readonly #addToKeys: AddRows<KeyUsageRow>;
  readonly #addToTenants: AddRows<TenantUsageRow>;
  readonly #addUses: AddRows<VersionUsageRow>;
  /**
   * Keys of which a version was used for the first time, so that they may have rows of more versions than are reported.
   * In memory only: after a restart a key is added again with its next version, and then all its old versions are
   * folded.
   */
  readonly #toFold = new Set<string>();

  constructor(parts: {
    readonly read: Kysely<Tables>;
    readonly scan: Kysely<Tables>;
    readonly protectiveRead: Kysely<Tables>;
    readonly writer: WriteQueue;
    readonly dialect: SqlDialect;
  }) {
    this.#reads = { ordinary: parts.read, protective: parts.protectiveRead };
    this.#scan = parts.scan;
    this.#writer = parts.writer;
    this.#dialect = parts.dialect;
    // Compiled once: a batch runs them many times in one turn of the event loop.
    this.#addCounts = compileAddCounts(parts.read);
    this.#addToKeys = compileAddToKeys(parts.read);
    this.#addToTenants = compileAddToTenants(parts.read);
    this.#addUses = compileAddUses(parts.read);
  }

  async store(batch: UsageBatch): Promise<void> {
    await this.#writer.run(operational('usage'), async (transaction) => {
      const { numInsertedOrUpdatedRows: isNew } = await transaction
        .insertInto('usage_batches')
        .values({ id: batch.id, at: batch.at })
        .onConflict((conflict) => conflict.column('id').doNothing())
        .executeTakeFirstOrThrow();
      if (isNew !== 1n) return;
      // In one order everywhere: of two batches that meet, one then waits for the other, and never both.
      const counts = batch.counts.toSorted(byCountedRow);
      for (const query of this.#addCounts(counts.map(toCountRow))) await transaction.executeQuery(query);
      for (const query of this.#addToKeys(keySums(counts))) await transaction.executeQuery(query);
      for (const query of this.#addToTenants(tenantSums(counts))) await transaction.executeQuery(query);
      const known = await this.#lastAddresses(transaction, batch.uses);
      const uses = batch.uses
        .toSorted(byKeyAndVersion)
        .map((use) => toUseRow(use, known.get(`${use.keyId} ${use.version}`)));
      for (const query of this.#addUses(uses)) await transaction.executeQuery(query);
      this.#noteNewVersions(batch.uses, known);
      await lookAtUsed(transaction, this.#dialect, batch.uses);
      await transaction
        .deleteFrom('usage_batches')
        .where('id', 'in', (eb) =>
          eb
            .selectFrom('usage_batches')
            .select('id')
            .where('at', '<', batch.at - BATCH_IDS_KEPT_MS)
            .orderBy('at')
            .limit(BATCH_IDS_PRUNED_MAX),
        )
        .execute();
    });
  }

  async totalsOf(tenantId: string, keyIds: readonly string[]): Promise<ReadonlyMap<string, KeyUsage>> {
    // A key may have been rotated for years, so its rows are summed where that holds nobody up.
    const rows = await this.#scan
      .selectFrom('version_usage')
      .select((eb) => [
        'key_id',
        sumOfCounts(eb.ref('usage_count')).as('usage_count'),
        eb.fn.max<number | null>(soundTime(eb.ref('last_used_at'))).as('last_used_at'),
      ])
      .where('tenant_id', '=', tenantId)
      .where((eb) => this.#dialect.isAmong(eb.ref('key_id'), keyIds))
      .groupBy('key_id')
      .execute();
    return new Map(rows.map((row) => [row.key_id, { usageCount: row.usage_count, lastUsedAt: row.last_used_at }]));
  }

  async totalOf(tenantId: string, keyId: string, lane: Lane = 'ordinary'): Promise<KeyUsage | null> {
    const rows = await this.#reads[lane]
      .selectFrom('version_usage')
      .select((eb) => [
        soundCount(eb.ref('usage_count')).as('usage_count'),
        soundTime(eb.ref('last_used_at')).as('last_used_at'),
      ])
      .where('key_id', '=', keyId)
      .where('tenant_id', '=', tenantId)
      .limit(ROWS_ADDED_UP_MAX + 1)
      .execute();
    // There may be thousands of versions that are not folded yet. Their sum must not block the event loop.
    if (rows.length > ROWS_ADDED_UP_MAX) return (await this.totalsOf(tenantId, [keyId])).get(keyId) ?? null;
    if (rows.length === 0) return null;
    return {
      usageCount: rows.reduce((sum, row) => addCounts(sum, row.usage_count), 0),
      lastUsedAt: latestUse(rows.map((row) => row.last_used_at)),
    };
  }

  async ofKey(tenantId: string, keyId: string, lane: Lane = 'ordinary'): Promise<readonly StoredUsage[]> {
    const rows = await this.#reads[lane]
      .selectFrom('version_usage')
      .select((eb) => [
        'version',
        soundCount(eb.ref('usage_count')).as('usage_count'),
        soundTime(eb.ref('last_used_at')).as('last_used_at'),
        'last_addresses',
      ])
      .where('key_id', '=', keyId)
      .where('tenant_id', '=', tenantId)
      // A damaged version is none of the key's, and must not take the place of one that is.
      .where((eb) => eb.between('version', FOLDED_VERSION + 1, Number.MAX_SAFE_INTEGER))
      .orderBy('version', 'desc')
      .limit(VERSIONS_READ_MAX)
      .execute();
    return rows.map((row) => ({
      version: row.version,
      usageCount: row.usage_count,
      lastUsedAt: row.last_used_at,
      lastAddresses: parseAddresses(row.last_addresses),
    }));
  }

  /**
   * Of the versions in use of these keys, by `<key id> <version>`; held until the batch is stored, or two would
   * overwrite each other.
   */
  async #lastAddresses(
    transaction: Transaction<Tables>,
    uses: readonly PendingUsage[],
  ): Promise<ReadonlyMap<string, string>> {
    const keyIds = [...new Set(uses.map((use) => use.keyId))];
    // Of the versions in use alone: a key that rotates itself has thousands, and this holds the event loop on SQLite.
    const versions = [...new Set(uses.map((use) => use.version))];
    if (versions.length === 0) return new Map();
    const rows = await this.#dialect
      .lockRows(
        transaction
          .selectFrom('version_usage')
          .select(['key_id', 'version', 'last_addresses'])
          .where((eb) => this.#dialect.isAmong(eb.ref('key_id'), keyIds))
          .where((eb) => this.#dialect.isOneOfNumbers(eb.ref('version'), versions))
          .orderBy('key_id')
          .orderBy('version'),
      )
      .execute();
    return new Map(rows.map((row) => [`${row.key_id} ${row.version}`, row.last_addresses]));
  }

  sums(query: UsageQuery): Promise<readonly UsageSum[]> {
    return readSums(this.#scan, query);
  }

  prune(step: UsageStep, before: number, limit: number): Promise<number> {
    return this.#writer.run(operational('usage'), (transaction) => pruneStep(transaction, step, { before, limit }));
  }

  async foldVersions(limit: number): Promise<boolean> {
    const [keyId] = this.#toFold;
    if (keyId === undefined) return false;
    // Removed before folding, so that a version that is first used meanwhile adds the key again.
    this.#toFold.delete(keyId);
    try {
      const folded = await this.#writer.run(operational('usage'), (transaction) =>
        foldOldVersions(transaction, { keyId, limit, dialect: this.#dialect }),
      );
      if (folded === limit) this.#toFold.add(keyId);
    } catch (error) {
      this.#toFold.add(keyId);
      throw error;
    }
    return this.#toFold.size > 0;
  }

  /** May be called for a batch that is rolled back later: folding then finds nothing to do. */
  #noteNewVersions(uses: readonly PendingUsage[], known: ReadonlyMap<string, string>): void {
    for (const { keyId, version } of uses) {
      if (version <= VERSIONS_READ_MAX || known.has(`${keyId} ${version}`)) continue;
      if (this.#toFold.size < KEYS_TO_FOLD_MAX) this.#toFold.add(keyId);
    }
  }
}

function compileAddCounts(db: Kysely<Tables>): AddRows<UsageCountRow> {
  return prepareBatch<Values<UsageCountRow>>(['tenant_id', 'key_id', 'version', 'minute', 'outcome', 'count'], (rows) =>
    db
      .insertInto('usage_counts')
      .values([...rows])
      .onConflict((conflict) =>
        conflict
          .columns(['key_id', 'minute', 'version', 'outcome'])
          .doUpdateSet((eb) => ({ count: countPlus(eb.ref('usage_counts.count'), eb.ref('excluded.count')) })),
      ),
  );
}

function compileAddUses(db: Kysely<Tables>): AddRows<VersionUsageRow> {
  return prepareBatch<Values<VersionUsageRow>>(
    ['tenant_id', 'key_id', 'version', 'usage_count', 'last_used_at', 'last_addresses'],
    (rows) =>
      db
        .insertInto('version_usage')
        .values([...rows])
        .onConflict((conflict) =>
          conflict.columns(['key_id', 'version']).doUpdateSet((eb) => ({
            usage_count: countPlus(eb.ref('version_usage.usage_count'), eb.ref('excluded.usage_count')),
            last_used_at: laterTime(eb.ref('version_usage.last_used_at'), eb.ref('excluded.last_used_at')),
            last_addresses: eb.ref('excluded.last_addresses'),
          })),
        ),
  );
}

interface OfVersion {
  readonly keyId: string;
  readonly version: number;
}

function byKeyAndVersion(a: OfVersion, b: OfVersion): number {
  return a.keyId < b.keyId ? -1 : a.keyId > b.keyId ? 1 : a.version - b.version;
}

/** By all that makes a row: the minutes and outcomes of one key may come in any order too. */
function byCountedRow(a: UsageCount, b: UsageCount): number {
  const byOutcome = a.outcome < b.outcome ? -1 : Number(a.outcome > b.outcome);
  return byKeyAndVersion(a, b) || a.minute - b.minute || byOutcome;
}

function toCountRow(count: UsageCount): Values<UsageCountRow> {
  return {
    tenant_id: count.tenantId,
    key_id: count.keyId,
    version: count.version,
    minute: count.minute,
    outcome: count.outcome,
    count: count.count,
  };
}

function toUseRow(use: PendingUsage, before: string | undefined): Values<VersionUsageRow> {
  const known = before === undefined ? [] : parseAddresses(before);
  const addresses = [...new Set([...use.addresses, ...known])].slice(0, ADDRESSES_PER_VERSION_MAX);
  return {
    tenant_id: use.tenantId,
    key_id: use.keyId,
    version: use.version,
    usage_count: use.count,
    last_used_at: use.lastUsedAt,
    last_addresses: JSON.stringify(addresses),
  };
}

/** Shown to people and never decided by, so a damaged value is shown as none. */
function parseAddresses(text: string): readonly string[] {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
  } catch {
    return [];
  }
}
