/** A temporary database for a test, and sample rows for it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EventRow, RowChange } from '../events/ledger.ts';
import { leafHash } from '../events/merkle.ts';
import { type Clock, systemClock } from '../foundation/clock.ts';
import { newId } from '../foundation/ids.ts';
import type { ApiKeyRow, ApiKeyVersionRow } from '../schema/api-key-row.ts';
import type { TenantRow } from '../schema/tenant-row.ts';
import type { Database } from '../storage/database.ts';
import type { SqliteOptions } from '../storage/sqlite/sqlite.ts';

export interface ScratchDatabase extends AsyncDisposable {
  readonly db: Database;
  readonly path: string;
  readonly folder: string;
  /** The SQL text of every statement since the database was opened. */
  readonly statements: string[];
  /** Opens the same file again, as another process would. Closed with the first. */
  openAgain(options?: Partial<SqliteOptions>): Promise<Database>;
}

/** Opens a new database in a temporary folder. Use it with `await using`. */
export async function openScratchDatabase(options: { readonly clock?: Clock } = {}): Promise<ScratchDatabase> {
  // Imported when used, so that tests that only need a clock do not need SQLite.
  const { openSqlite } = await import('../storage/sqlite/sqlite.ts');
  const folder = scratchFolder();
  const path = join(folder.path, 'test.db');
  const clock = options.clock ?? systemClock;
  const statements: string[] = [];
  // Without the reserved disk space, which would be megabytes per test.
  const common = { path, clock, reserve: { bytes: 0 } };
  const db = await openSqlite({ ...common, onStatement: (sql) => statements.push(sql) });
  const opened = [db];
  return {
    db,
    path,
    folder: folder.path,
    statements,
    async openAgain(again = {}) {
      const other = await openSqlite({ ...common, ...again });
      opened.push(other);
      return other;
    },
    async [Symbol.asyncDispose]() {
      for (const one of opened) await one.close();
      folder[Symbol.dispose]();
    },
  };
}

/** A new temporary folder. Use it with `using`. */
export function scratchFolder(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'pantheon-auth-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** A sample event row. Its content is filler; its leaf hash matches its body. */
export function sampleEvent(over: Partial<EventRow> = {}): EventRow {
  const body = over.body ?? '{"sample":true}';
  const leafRandom = over.leafRandom ?? new Uint8Array(32).fill(1);
  return {
    id: newId(),
    at: 1_000,
    tenantId: 'default',
    type: 'key.exposed_in_url',
    subjectType: 'key',
    subjectId: newId(),
    actorKeyId: null,
    body,
    leafRandom,
    leaf: new Uint8Array(leafHash(leafRandom, body)),
    personal: new Uint8Array([3, 0, 255]),
    ...over,
  };
}

export function sampleTenant(over: Partial<TenantRow> = {}): TenantRow {
  return {
    id: 'default',
    tenant_id: 'default',
    name: 'Default',
    state: 'active',
    created_at: 1_000,
    revision: 1,
    audiences: null,
    ...over,
  };
}

export function sampleKey(over: Partial<ApiKeyRow> = {}): ApiKeyRow {
  return {
    id: newId(),
    tenant_id: 'default',
    user_id: 'user-1',
    name: 'Sample',
    description: null,
    environment: 'live',
    permissions: '["docs:read"]',
    grantable: '[]',
    state: 'active',
    state_at: null,
    state_reason: null,
    created_at: 1_000,
    created_by: null,
    not_before: null,
    expires_at: null,
    tokens_not_before: null,
    rate_limits: '[]',
    quota: null,
    ip_allowlist: '[]',
    rotation: null,
    jwt_algorithm: null,
    version: 1,
    kept_versions: null,
    revision: 1,
    sealed: new Uint8Array([0, 1, 254, 255]),
    id_tag: 1,
    ...over,
  };
}

export function sampleVersion(over: Partial<ApiKeyVersionRow> & Pick<ApiKeyVersionRow, 'key_id'>): ApiKeyVersionRow {
  const sealed = new Uint8Array([9, 0, 9]);
  const times = { created_at: 1_000, accepted_until: null, retires_on_first_use: null };
  return { tenant_id: 'default', version: 1, ...times, revision: 1, sealed, ...over };
}

/** The changes that insert a tenant. */
export function insertTenant(over: Partial<TenantRow> = {}): RowChange {
  return { kind: 'insert', table: 'tenants', row: sampleTenant(over) };
}

/** The changes that insert a key with its first version. */
export function insertKey(key: ApiKeyRow): readonly RowChange[] {
  const version = sampleVersion({ key_id: key.id, tenant_id: key.tenant_id });
  return [
    { kind: 'insert', table: 'api_keys', row: key },
    { kind: 'insert', table: 'api_key_versions', row: version },
  ];
}
