/** Keys with their versions and their tenant, read together: one statement for one key, one for a page of them. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { type CompiledQuery, type Expression, type Kysely, type SelectQueryBuilder, type SqlBool, sql } from 'kysely';
import type { KeyListQuery, KeyRowSet, KeyRows } from '../api-keys/key-rows.ts';
import { ADMINISTRATOR_LASTS_MS } from '../domain/administrator.ts';
import { VERSIONS_KEPT_MAX } from '../domain/key.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Cell, Row } from '../events/ledger.ts';
import { columnsOf } from './columns.ts';
import type { SqlDialect } from './dialect.ts';
import { statement } from './statement.ts';
import type { ApiKeyRow, Tables } from './tables.ts';

/**
 * Keys that one statement looks at while it searches for those that match: about a millisecond, after which the event
 * loop has a turn. A search goes on until it has a page or has seen the tenant.
 */
export const SCAN_SLICE_KEYS = 1_000;
/** Looked at for "is it the last one?". Most pass at once; what their rows do not say so plainly, their record does. */
const ADMINISTRATORS_MAX = 200;

const KEY_COLUMNS = columnsOf('api_keys');
const VERSION_COLUMNS = columnsOf('api_key_versions');
const TENANT_COLUMNS = columnsOf('tenants');
/** One flat row carries all three; these keep their columns apart. */
const SELECTION = [
  ...KEY_COLUMNS.map((name) => sql.ref<Cell>(`k.${name}`).as(`k_${name}`)),
  ...VERSION_COLUMNS.map((name) => sql.ref<Cell>(`v.${name}`).as(`v_${name}`)),
  ...TENANT_COLUMNS.map((name) => sql.ref<Cell>(`t.${name}`).as(`t_${name}`)),
];

interface Place {
  readonly created_at: number;
  readonly id: string;
}

export class SqlKeyRows implements KeyRows {
  readonly #db: Kysely<Tables>;
  readonly #dialect: SqlDialect;
  readonly #find: (values: { readonly id: string }) => CompiledQuery<Row>;

  constructor(db: Kysely<Tables>, dialect: SqlDialect) {
    this.#db = db;
    this.#dialect = dialect;
    this.#find = statement<{ readonly id: string }, Row>((parameter) =>
      // Not ordered here: a sort of rows this wide costs SQLite ten times the read itself.
      joined(db.selectFrom('api_keys as k')).where('k.id', '=', parameter('id')),
    );
  }

  async find(id: string): Promise<KeyRowSet | null> {
    const { rows } = await this.#db.executeQuery(this.#find({ id }));
    return fold(rows)[0] ?? null;
  }

  async list(query: KeyListQuery): Promise<readonly KeyRowSet[]> {
    const filters = this.#unindexedFilters(query);
    // Without them every key of the slice is on the page, and more would be read for nothing.
    const slice = filters.length === 0 ? query.limit : Math.max(SCAN_SLICE_KEYS, query.limit);
    const found: KeyRowSet[] = [];
    let after: Place | null = query.after && { created_at: query.after.createdAt, id: query.after.id };
    for (;;) {
      found.push(...(await this.#page(query, filters, after, slice, query.limit - found.length)));
      if (filters.length === 0 || found.length >= query.limit) return found;
      after = await this.#endOfSlice(query, after, slice);
      if (after === null) return found;
      await nextTurn();
    }
  }

  async administrators(now: number): Promise<readonly string[]> {
    const rows = await this.#db
      .selectFrom('api_keys')
      .select('id')
      .where('tenant_id', '=', SYSTEM_TENANT)
      .where('state', '=', 'active')
      .where('environment', '=', 'live')
      .where('ip_allowlist', '=', '[]')
      .where('quota', 'is', null)
      .where((eb) => eb.or([eb('not_before', 'is', null), eb('not_before', '<=', now)]))
      .where((eb) => eb.or([eb('expires_at', 'is', null), eb('expires_at', '>', now + ADMINISTRATOR_LASTS_MS)]))
      // A list as JSON text. A permission has no character that JSON escapes, so this is an exact match of a member.
      .where('permissions', 'like', '%"pantheon:*"%')
      // The oldest first: whoever makes many that do not count does not hide those that were there before.
      .orderBy('created_at')
      .orderBy('id')
      .limit(ADMINISTRATORS_MAX)
      .execute();
    return rows.map((row) => row.id);
  }

  /** The matching keys of the next slice, with what belongs to them. */
  async #page(
    query: KeyListQuery,
    filters: readonly Expression<SqlBool>[],
    after: Place | null,
    slice: number,
    limit: number,
  ): Promise<readonly KeyRowSet[]> {
    const paged = this.#db
      .with('slice', () => this.#slice(query, after).selectAll().limit(slice))
      .with('page', (db) =>
        db
          .selectFrom('slice')
          .selectAll()
          .where((eb) => eb.and(filters))
          .orderBy('created_at', 'desc')
          .orderBy('id', 'desc')
          .limit(limit),
      );
    const rows = await joined(paged.selectFrom('page as k') as unknown as KeysQuery)
      .orderBy('k.created_at', 'desc')
      .orderBy('k.id', 'desc')
      .execute();
    return fold(rows);
  }

  /** Where the slice ended, or null when it was the last one. */
  async #endOfSlice(query: KeyListQuery, after: Place | null, slice: number): Promise<Place | null> {
    const last = this.#slice(query, after)
      .select(['created_at', 'id'])
      .offset(slice - 1)
      .limit(1);
    return (await last.executeTakeFirst()) ?? null;
  }

  /** Keys in the order of the list, narrowed only by what an index narrows: each slice is one range of it. */
  #slice(query: KeyListQuery, after: Place | null): SelectQueryBuilder<Tables, 'api_keys', object> {
    const { tenantId, userId, createdBy } = query;
    let keys = this.#db.selectFrom('api_keys').where('tenant_id', '=', tenantId);
    if (userId !== null) keys = keys.where('user_id', '=', userId);
    if (createdBy !== null) keys = keys.where('created_by', '=', createdBy);
    if (after !== null) {
      keys = keys.where(({ eb, refTuple, tuple }) =>
        eb(refTuple('created_at', 'id'), '<', tuple(after.created_at, after.id)),
      );
    }
    return keys.orderBy('created_at', 'desc').orderBy('id', 'desc');
  }

  #unindexedFilters(query: KeyListQuery): readonly Expression<SqlBool>[] {
    const filters: Expression<SqlBool>[] = [];
    if (query.environment !== null) filters.push(sql`environment = ${query.environment}`);
    if (query.text !== null) {
      const inName = this.#dialect.containsText(sql.ref<string>('name'), query.text);
      filters.push(sql`(${inName} or substr(id, 1, ${query.text.length}) = ${query.text})`);
    }
    switch (query.state) {
      case null:
        break;
      case 'active':
        filters.push(sql`state = 'active'`, sql`(expires_at is null or expires_at > ${query.now})`);
        break;
      case 'expired':
        filters.push(sql`state = 'active'`, sql`expires_at <= ${query.now}`);
        break;
      default:
        filters.push(sql`state = ${query.state}`);
    }
    return filters;
  }
}

type KeysQuery = SelectQueryBuilder<Tables & { k: ApiKeyRow }, 'k', object>;

/** A key without a version or a tenant is read too: it is damaged, and whoever opens it has to see that. */
function joined(keys: KeysQuery) {
  return keys
    .leftJoin('api_key_versions as v', 'v.key_id', 'k.id')
    .leftJoin('tenants as t', 't.id', 'k.tenant_id')
    .select(SELECTION);
}

/** Rows of one key follow each other, its versions in any order. */
function fold(rows: readonly Row[]): readonly KeyRowSet[] {
  const sets: { key: Row; versions: Row[]; tenant: Row | null }[] = [];
  for (const row of rows) {
    let set = sets.at(-1);
    if (set === undefined || set.key['id'] !== row['k_id']) {
      const tenant = row['t_id'] === null ? null : part(row, 't', TENANT_COLUMNS);
      set = { key: part(row, 'k', KEY_COLUMNS), versions: [], tenant };
      sets.push(set);
    }
    if (row['v_key_id'] !== null) set.versions.push(part(row, 'v', VERSION_COLUMNS));
  }
  for (const { versions } of sets) {
    versions.sort((a, b) => Number(b['version']) - Number(a['version'])).splice(VERSIONS_KEPT_MAX);
  }
  return sets;
}

function part(row: Row, prefix: string, columns: readonly string[]): Row {
  const cells: Record<string, Cell> = {};
  for (const name of columns) cells[name] = row[`${prefix}_${name}`] ?? null;
  return cells;
}
