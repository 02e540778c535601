/** Tenants at rest: records to rows and back. Nothing of a tenant is secret, so nothing is sealed. */
import type { AuditEvent } from '../domain/event.ts';
import type { TenantRecord, TenantState } from '../domain/tenant.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Ledger, RequiredRow, Row } from '../events/ledger.ts';
import type { TenantRows } from './tenant-rows.ts';

export class TenantStorage {
  readonly #rows: TenantRows;
  readonly #ledger: Ledger;
  readonly #events: EventLog;

  constructor(deps: { readonly rows: TenantRows; readonly ledger: Ledger; readonly events: EventLog }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
  }

  async find(id: string): Promise<TenantRecord | null> {
    const row = await this.#rows.find(id);
    return row === null ? null : tenantFromRow(row);
  }

  async list(after: string | null, limit: number): Promise<readonly TenantRecord[]> {
    return (await this.#rows.list(after, limit)).map(tenantFromRow);
  }

  /** Stands only if the rows in `requires` are as they were read. @throws PantheonError `conflict`. */
  async commit(tenant: TenantRecord, event: AuditEvent, requires: readonly RequiredRow[]): Promise<void> {
    const row = tenantToRow(tenant);
    const events = await this.#events.toRows([event]);
    const change =
      tenant.revision === 1
        ? ({ kind: 'insert', table: 'tenants', row } as const)
        : ({
            kind: 'update',
            table: 'tenants',
            where: { id: tenant.id },
            set: row,
            expectedRevision: tenant.revision - 1,
          } as const);
    await this.#ledger.commit({ changes: [change], requires, events });
  }
}

export function tenantFromRow(row: Row): TenantRecord {
  return {
    id: String(row['id']),
    name: String(row['name']),
    state: String(row['state']) as TenantState,
    createdAt: Number(row['created_at']),
    revision: Number(row['revision']),
  };
}

function tenantToRow(tenant: TenantRecord): Row {
  // A tenant is its own tenant, so that every row of access state has the column.
  return {
    id: tenant.id,
    tenant_id: tenant.id,
    name: tenant.name,
    state: tenant.state,
    created_at: tenant.createdAt,
    revision: tenant.revision,
  };
}
