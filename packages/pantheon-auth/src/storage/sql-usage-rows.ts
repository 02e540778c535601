/** Usage: counts by minute and outcome, and the last use of each version. Stored in batches, each of them once. */
import type { CompiledQuery, Kysely } from 'kysely';
import { DAY_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { ADDRESSES_PER_VERSION_MAX } from '../usage/usage-buffer.ts';
import type {
  UsageBatch,
  UsageCount,
  UsageOutcome,
  UsageQuery,
  UsageRows,
  VersionUsage,
  VersionUse,
} from '../usage/usage-rows.ts';
import type { SqlDialect } from './dialect.ts';
import { statement } from './statement.ts';
import type { Tables, UsageCountRow, VersionUsageRow } from './tables.ts';
import type { Writer } from './writer.ts';

/** A batch is retried for minutes at most, so its id is of no use after this. */
export const BATCH_IDS_KEPT_MS: number = DAY_MS;
/** Ids forgotten with each batch: more than one, so that their number falls back after a burst. */
const BATCH_IDS_PRUNED_MAX = 100;
/** Rows of one answer: a month of minutes of one key with two outcomes. */
export const USAGE_COUNTS_READ_MAX = 100_000;

export class SqlUsageRows implements UsageRows {
  readonly #db: Kysely<Tables>;
  readonly #writer: Writer;
  readonly #dialect: SqlDialect;
  readonly #addCount: (row: Values<UsageCountRow>) => CompiledQuery<unknown>;
  readonly #findUse: (key: { readonly key_id: string; readonly version: number }) => CompiledQuery<LastUse>;
  readonly #addUse: (row: Values<VersionUsageRow>) => CompiledQuery<unknown>;

  constructor(db: Kysely<Tables>, writer: Writer, dialect: SqlDialect) {
    this.#db = db;
    this.#writer = writer;
    this.#dialect = dialect;
    // Compiled once: a batch runs them a thousand times in one turn of the event loop.
    this.#addCount = compileAddCount(db);
    this.#findUse = compileFindUse(db);
    this.#addUse = compileAddUse(db, dialect);
  }

  async store(batch: UsageBatch): Promise<void> {
    await this.#writer.run(async (transaction) => {
      const { numInsertedOrUpdatedRows: isNew } = await transaction
        .insertInto('usage_batches')
        .values({ id: batch.id, at: batch.at })
        .onConflict((conflict) => conflict.column('id').doNothing())
        .executeTakeFirstOrThrow();
      if (isNew !== 1n) return;
      for (const count of batch.counts) await transaction.executeQuery(this.#addCount(toCountRow(count)));
      for (const use of batch.uses) {
        const { rows } = await transaction.executeQuery(this.#findUse({ key_id: use.keyId, version: use.version }));
        await transaction.executeQuery(this.#addUse(toUseRow(use, rows[0])));
      }
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

  async ofKeys(tenantId: string, keyIds: readonly string[]): Promise<ReadonlyMap<string, readonly VersionUsage[]>> {
    const rows = await this.#db
      .selectFrom('version_usage')
      .select(['key_id', 'version', 'usage_count', 'last_used_at', 'last_addresses'])
      .where('tenant_id', '=', tenantId)
      .where((eb) => this.#dialect.isAmong(eb.ref('key_id'), keyIds))
      .orderBy('key_id')
      .orderBy('version', 'desc')
      .execute();
    const byKey = new Map<string, VersionUsage[]>();
    for (const row of rows) {
      const versions = byKey.get(row.key_id) ?? [];
      if (versions.length === 0) byKey.set(row.key_id, versions);
      versions.push({
        version: row.version,
        usageCount: row.usage_count,
        lastUsedAt: row.last_used_at,
        lastAddresses: parseAddresses(row.last_addresses),
      });
    }
    return byKey;
  }

  async counts(query: UsageQuery): Promise<readonly UsageCount[]> {
    const { keyId } = query;
    let counts = this.#db.selectFrom('usage_counts').selectAll().where('tenant_id', '=', query.tenantId);
    if (keyId !== null) counts = counts.where('key_id', '=', keyId);
    const rows = await counts
      .where('minute', '>=', query.from)
      .where('minute', '<', query.to)
      .orderBy('minute')
      .orderBy('key_id')
      .orderBy('version')
      .orderBy('outcome')
      .limit(USAGE_COUNTS_READ_MAX + 1)
      .execute();
    if (rows.length > USAGE_COUNTS_READ_MAX) {
      throw new PantheonError('invalid_request', {
        field: 'from',
        detail: 'Too much usage for one answer; ask for less time.',
      });
    }
    return rows.map((row) => ({
      tenantId: row.tenant_id,
      keyId: row.key_id,
      version: row.version,
      minute: row.minute,
      outcome: row.outcome as UsageOutcome,
      count: row.count,
    }));
  }
}

/** A row type as an object type, which has the index signature that `statement` asks for. */
type Values<T> = { readonly [Name in keyof T]: T[Name] };
type LastUse = { readonly last_addresses: string };

function compileAddCount(db: Kysely<Tables>): (row: Values<UsageCountRow>) => CompiledQuery<unknown> {
  return statement((p) =>
    db
      .insertInto('usage_counts')
      .values({
        tenant_id: p('tenant_id'),
        key_id: p('key_id'),
        version: p('version'),
        minute: p('minute'),
        outcome: p('outcome'),
        count: p('count'),
      })
      .onConflict((conflict) =>
        conflict
          .columns(['key_id', 'minute', 'version', 'outcome'])
          .doUpdateSet((eb) => ({ count: eb('usage_counts.count', '+', eb.ref('excluded.count')) })),
      ),
  );
}

function compileFindUse(
  db: Kysely<Tables>,
): (key: { readonly key_id: string; readonly version: number }) => CompiledQuery<LastUse> {
  return statement((p) =>
    db
      .selectFrom('version_usage')
      .select('last_addresses')
      .where('key_id', '=', p('key_id'))
      .where('version', '=', p('version')),
  );
}

function compileAddUse(
  db: Kysely<Tables>,
  dialect: SqlDialect,
): (row: Values<VersionUsageRow>) => CompiledQuery<unknown> {
  return statement((p) =>
    db
      .insertInto('version_usage')
      .values({
        tenant_id: p('tenant_id'),
        key_id: p('key_id'),
        version: p('version'),
        usage_count: p('usage_count'),
        last_used_at: p('last_used_at'),
        last_addresses: p('last_addresses'),
      })
      .onConflict((conflict) =>
        conflict.columns(['key_id', 'version']).doUpdateSet((eb) => ({
          usage_count: eb('version_usage.usage_count', '+', eb.ref('excluded.usage_count')),
          last_used_at: dialect.greater(eb.ref('version_usage.last_used_at'), eb.ref('excluded.last_used_at')),
          last_addresses: eb.ref('excluded.last_addresses'),
        })),
      ),
  );
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

function toUseRow(use: VersionUse, before: LastUse | undefined): Values<VersionUsageRow> {
  const known = before === undefined ? [] : parseAddresses(before.last_addresses);
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
