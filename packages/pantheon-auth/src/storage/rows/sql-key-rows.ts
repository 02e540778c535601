/** Keys with their versions and their tenant, read together: one statement for one key, one for a page of them. */

import { type CompiledQuery, type Expression, type Kysely, type SelectQueryBuilder, type SqlBool, sql } from 'kysely';
import type { ChildKey, KeyListQuery, KeyPlace, KeyRowSet, KeyRows } from '../../api-keys/key-rows.ts';
import { ADMINISTRATOR_LASTS_MS } from '../../domain/administrator.ts';
import { VERSIONS_KEPT_MAX } from '../../domain/key.ts';
import { SYSTEM_TENANT } from '../../domain/tenant.ts';
import type { Lane } from '../../events/write-lanes.ts';
import type { ListPart } from '../../foundation/list-part.ts';
import type { AccessTables, Cell } from '../../schema/access-tables.ts';
import type { ApiKeyRow, ApiKeyVersionRow } from '../../schema/api-key-row.ts';
import type { AsStored } from '../../schema/as-stored.ts';
import type { TenantRow } from '../../schema/tenant-row.ts';
import { withDamagedRows } from '../damaged-integers.ts';
import type { SqlDialect } from '../dialect.ts';
import { statement } from '../statement.ts';
import type { Tables } from '../tables.ts';
import { columnsOf } from './columns.ts';
import { scan } from './scan.ts';

/**
 * What a key takes in a page: its row comes once with each of its versions. What is left out is small.
 */
const BYTES = sql<number>`
  (octet_length(sealed) + octet_length(permissions) + octet_length(grantable) + octet_length(rate_limits) +
    octet_length(ip_allowlist) + ${sql.lit(1_000)}) * case when version < ${sql.lit(VERSIONS_KEPT_MAX)}
    and kept_versions is null then version else ${sql.lit(VERSIONS_KEPT_MAX)} end`.as('bytes');
/** Looked at for "is it the last one?". Most pass at once; what their rows do not say so plainly, their record does. */
const ADMINISTRATORS_MAX = 200;

/** One flat row carries rows of all three tables; the prefixes keep their columns apart. */
type JoinedRow = Readonly<Record<string, Cell | bigint>>;
const JOINED = {
  api_keys: { prefix: 'k', columns: columnsOf('api_keys') },
  api_key_versions: { prefix: 'v', columns: columnsOf('api_key_versions') },
  tenants: { prefix: 't', columns: columnsOf('tenants') },
} as const;
const SELECTION = Object.values(JOINED).flatMap(({ prefix, columns }) =>
  columns.map((name) => sql.ref<Cell>(`${prefix}.${name}`).as(`${prefix}_${name}`)),
);

type MeasuredKey = AsStored<Pick<ApiKeyRow, 'created_at' | 'id'>> & { readonly bytes: number };

interface Slice {
  readonly after: KeyPlace | null;
  readonly rows: number;
  readonly limit: number;
}

export class SqlKeyRows implements KeyRows {
  readonly #reads: Readonly<Record<Lane, Kysely<Tables>>>;
  readonly #scan: Kysely<Tables>;
  readonly #dialect: SqlDialect;
  readonly #find: (values: { readonly id: string }) => CompiledQuery<JoinedRow>;

  constructor(
    db: { readonly read: Kysely<Tables>; readonly scan: Kysely<Tables>; readonly protectiveRead: Kysely<Tables> },
    dialect: SqlDialect,
  ) {
    this.#reads = { ordinary: db.read, protective: db.protectiveRead };
    this.#scan = damagedToo(db.scan);
    this.#dialect = dialect;
    this.#find = statement<{ readonly id: string }, JoinedRow>((parameter) =>
      // Not ordered here: a sort of rows this wide costs SQLite ten times the read itself.
      joined(damagedToo(db.read).selectFrom('api_keys as k')).where('k.id', '=', parameter('id')),
    );
  }

  async find(id: string, lane: Lane = 'ordinary'): Promise<KeyRowSet | null> {
    const { rows } = await this.#reads[lane].executeQuery(this.#find({ id }));
    return fold(rows)[0] ?? null;
  }

  async list(query: KeyListQuery, signal?: AbortSignal): Promise<ListPart<KeyRowSet, KeyPlace>> {
    const filters = this.#unindexedFilters(query);
    const { items, next } = await scan<MeasuredKey, KeyPlace>({
      limit: query.limit,
      after: query.after,
      isWhole: filters.length === 0,
      signal,
      matches: (after, rows, limit) => this.#matches(query, filters, { after, rows, limit }),
      endOf: (after, rows) => this.#endOf(query, after, rows),
      positionOf: toCursor,
    });
    signal?.throwIfAborted();
    const ids = items.map(({ id }) => id);
    return { items: ids.length === 0 ? [] : await this.#whole(ids), next };
  }

  async childrenOf(id: string, after: KeyPlace | null, limit: number): Promise<readonly ChildKey[]> {
    const children = this.#scan
      .selectFrom('api_keys')
      .select(['tenant_id', 'created_at', 'id'])
      .where('created_by', '=', id);
    const rows = await newestFirst(children, after).limit(limit).execute();
    return rows.map((row) => ({ tenantId: row.tenant_id, ...toCursor(row) }));
  }

  async administrators(now: number): Promise<readonly string[]> {
    const rows = await this.#scan
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

  async #matches(
    query: KeyListQuery,
    filters: readonly Expression<SqlBool>[],
    { after, rows, limit }: Slice,
  ): Promise<readonly MeasuredKey[]> {
    const columns = ['created_at', 'id', 'name', 'environment', 'state', 'expires_at'] as const;
    return this.#scan
      .with('slice', () =>
        this.#slice(query, after)
          .select([...columns, BYTES])
          .limit(rows),
      )
      .selectFrom('slice')
      .select(['created_at', 'id', 'bytes'])
      .where((eb) => eb.and([...filters]))
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
      .limit(limit)
      .execute();
  }

  async #endOf(query: KeyListQuery, after: KeyPlace | null, rows: number): Promise<KeyPlace | null> {
    const last = this.#slice(query, after)
      .select(['created_at', 'id'])
      .offset(rows - 1)
      .limit(1);
    const row = await last.executeTakeFirst();
    return row === undefined ? null : toCursor(row);
  }

  /** Keys in the order of the list, narrowed only by what an index narrows: each slice is one range of it. */
  #slice({ tenantId, userId }: KeyListQuery, after: KeyPlace | null): KeyTable {
    let keys: KeyTable = this.#scan.selectFrom('api_keys').where('tenant_id', '=', tenantId);
    if (userId !== null) keys = keys.where('user_id', '=', userId);
    return newestFirst(keys, after);
  }

  /** With their versions and tenants. */
  async #whole(ids: readonly string[]): Promise<readonly KeyRowSet[]> {
    const rows = await joined(this.#scan.selectFrom('api_keys as k'))
      .where((eb) => this.#dialect.isAmong(eb.ref('k.id'), ids))
      .orderBy('k.created_at', 'desc')
      .orderBy('k.id', 'desc')
      .execute();
    return fold(rows);
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

type KeyTable = SelectQueryBuilder<Tables, 'api_keys', object>;

function newestFirst<Row>(
  keys: SelectQueryBuilder<Tables, 'api_keys', Row>,
  after: KeyPlace | null,
): SelectQueryBuilder<Tables, 'api_keys', Row> {
  const rest =
    after === null
      ? keys
      : keys.where(({ eb, refTuple, tuple }) =>
          eb(refTuple('created_at', 'id'), '<', tuple(after.createdAt as number, after.id)),
        );
  return rest.orderBy('created_at', 'desc').orderBy('id', 'desc');
}

function toCursor({ created_at, id }: AsStored<Pick<ApiKeyRow, 'created_at' | 'id'>>): KeyPlace {
  return { createdAt: typeof created_at === 'number' ? created_at : String(created_at), id };
}

/** Typed like the tables, for the many queries that are built in parts here. What they find has the type `AsStored`. */
function damagedToo(db: Kysely<Tables>): Kysely<Tables> {
  return withDamagedRows(db) as unknown as Kysely<Tables>;
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
function fold(rows: readonly JoinedRow[]): readonly KeyRowSet[] {
  const sets: {
    key: AsStored<ApiKeyRow>;
    versions: AsStored<ApiKeyVersionRow>[];
    tenant: AsStored<TenantRow> | null;
  }[] = [];
  for (const row of rows) {
    let set = sets.at(-1);
    if (set === undefined || set.key.id !== row['k_id']) {
      const tenant = row['t_id'] === null ? null : part(row, 'tenants');
      set = { key: part(row, 'api_keys'), versions: [], tenant };
      sets.push(set);
    }
    if (row['v_key_id'] !== null) set.versions.push(part(row, 'api_key_versions'));
  }
  for (const { versions } of sets)
    versions.sort((a, b) => Number(b.version) - Number(a.version)).splice(VERSIONS_KEPT_MAX);
  return sets;
}

/** The row of one table. All of its columns are selected. */
function part<Table extends keyof typeof JOINED>(row: JoinedRow, table: Table): AsStored<AccessTables[Table]> {
  const { prefix, columns } = JOINED[table];
  const cells: Record<string, Cell | bigint> = {};
  for (const name of columns) cells[name] = row[`${prefix}_${name}`] ?? null;
  return cells as unknown as AsStored<AccessTables[Table]>;
}
