/** Maps tenant records to rows and back. Nothing about a tenant is secret, so nothing is sealed. */
import { type AuditEventAbout, eventAbout, isReadable, PROCESS_ACTOR } from '../domain/event.ts';
import type { StoredRevision } from '../domain/revision.ts';
import { evolveTenant, TENANT_STATES, type TenantRecord } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Ledger, Precondition, RowChange } from '../events/ledger.ts';
import type { Lane } from '../events/write-lanes.ts';
import type { Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { type AsStored, undamaged } from '../schema/as-stored.ts';
import type { TenantRow } from '../schema/tenant-row.ts';
import type { TenantRows } from './tenant-rows.ts';

/** A tenant whose row is damaged. It can be listed, suspended and deleted. Its keys are answered with 503. */
export interface QuarantinedTenant {
  readonly id: string;
  /** 1970-01-01 if the row does not tell. */
  readonly createdAt: Instant;
  readonly quarantined: true;
}

/** A tenant to change. */
export interface LoadedTenant extends TenantRecord {
  /** The revision in the row of a damaged tenant, which may not be the one that its events give. */
  readonly revisionAsStored?: StoredRevision | undefined;
}

const EVENTS_PER_READ = 200;

export class TenantStorage {
  readonly #rows: TenantRows;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;

  constructor(deps: { readonly rows: TenantRows; readonly ledger: Ledger; readonly events: EventCodec }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
  }

  async find(id: string, lane?: Lane): Promise<TenantRecord | null> {
    const row = await this.#rows.find(id, lane);
    return row === null ? null : tenantFromRow(row);
  }

  /** Ordered by id. A damaged tenant is listed as quarantined. */
  async list(after: string | null, limit: number): Promise<readonly (TenantRecord | QuarantinedTenant)[]> {
    return (await this.#rows.list(after, limit)).map(readOrName);
  }

  /** Rebuilds a tenant from its events, to suspend or delete a damaged one. Null: it has no row or no events. */
  async rebuild(id: string, lane: Lane): Promise<LoadedTenant | null> {
    // Before the events, so that a change between the two reads is a conflict.
    const row = await this.#rows.find(id, lane);
    const record = await this.#replay(id);
    return row && record && { ...record, revisionAsStored: row.revision };
  }

  async #replay(id: string): Promise<TenantRecord | null> {
    const query = { tenantId: id, type: null, subjectType: 'tenant', subjectId: id, order: 'oldest_first' } as const;
    let record: TenantRecord | null = null;
    for (let after: number | null = null; ; ) {
      const { items, next } = await this.#events.list({ ...query, after, limit: EVENTS_PER_READ });
      for (const event of items) {
        if (isReadable(event)) record = evolveTenant(record, eventAbout('tenant', event));
        else if (record === null)
          return null; // The event of its creation is lost.
        // A damaged event: its type is enough, because only a new name depends on its content.
        else record = evolveTenant(record, eventAbout('tenant', { ...event, ...UNSAID }));
      }
      if (next === null) return record;
      after = next;
    }
  }

  /** Commits only if the preconditions hold. @throws PantheonError `conflict`. */
  async commit(
    tenant: TenantRecord,
    event: AuditEventAbout<'tenant'>,
    preconditions: readonly Precondition[],
    revisionAsStored?: StoredRevision,
  ): Promise<void> {
    const row = tenantToRow(tenant);
    const events = await this.#events.toRows([event]);
    const change: RowChange =
      tenant.revision === 1
        ? { kind: 'insert', table: 'tenants', row }
        : {
            kind: 'update',
            table: 'tenants',
            where: { id: tenant.id },
            set: row,
            expectedRevision: tenant.revision - 1,
            revisionAsStored,
          };
    await this.#ledger.commit({ changes: [change], preconditions, events });
  }
}

/** The precondition that the tenant has not changed since it was read. */
export function tenantAsRead({ id, revision }: TenantRecord): Precondition {
  return { kind: 'row', table: 'tenants', where: { id }, revision };
}

const UNSAID = { actor: PROCESS_ACTOR, requestId: null, reason: null, before: null, after: null } as const;

function readOrName(row: AsStored<TenantRow>): TenantRecord | QuarantinedTenant {
  try {
    return tenantFromRow(row);
  } catch (error) {
    if (!(error instanceof PantheonError && error.code === 'tenant_quarantined')) throw error;
    return { id: row.id, createdAt: typeof row.created_at === 'number' ? row.created_at : 0, quarantined: true };
  }
}

/**
 * @throws PantheonError `tenant_quarantined` for a value that this version does not know, because it could mean that
 * keys must be denied.
 */
export function tenantFromRow(stored: AsStored<TenantRow>): TenantRecord {
  const row = undamaged<TenantRow>(stored);
  if (row === null) throw quarantined(stored, 'a number in its row is out of range');
  const state = TENANT_STATES.find((known) => known === row.state);
  if (state === undefined) {
    throw quarantined(row, 'this version does not know its state');
  }
  return {
    id: row.id,
    name: row.name,
    state,
    audiences: audiencesOf(row),
    createdAt: row.created_at,
    revision: row.revision,
  };
}

function audiencesOf(row: TenantRow): readonly string[] | null {
  if (row.audiences === null) return null;
  const read = jsonOf(row.audiences);
  if (Array.isArray(read) && read.every((audience) => typeof audience === 'string')) return read;
  throw quarantined(row, 'this version cannot read its audiences');
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function quarantined({ id }: Pick<TenantRow, 'id'>, why: string): PantheonError {
  return new PantheonError('tenant_quarantined', { detail: `Tenant ${id}: ${why}.` });
}

function tenantToRow(tenant: TenantRecord): TenantRow {
  return {
    id: tenant.id,
    tenant_id: tenant.id,
    name: tenant.name,
    state: tenant.state,
    audiences: tenant.audiences === null ? null : JSON.stringify(tenant.audiences),
    created_at: tenant.createdAt,
    revision: tenant.revision,
  };
}
