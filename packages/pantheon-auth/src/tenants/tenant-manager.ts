/** Tenants: created, renamed, suspended, resumed, deleted; each change is one event that every node follows. */

import type { CallerGuard, ConfirmedCall } from '../api-keys/caller-guard.ts';
import type { ConditionalOptions } from '../api-keys/conditional-change.ts';
import type { ExposedKeys } from '../api-keys/exposed-keys.ts';
import { parseReason } from '../api-keys/key-input.ts';
import { type Page, pageSize } from '../api-keys/key-lists.ts';
import { type ChangeOptions, PROCESS_CALLER } from '../api-keys/key-manager.ts';
import type { VerificationCache } from '../api-keys/verification-cache.ts';
import { assertMatches, entityTag, parseIfMatch } from '../domain/entity-tag.ts';
import type { AuditContext, AuditEvent, EventType } from '../domain/event.ts';
import { ACTIONS, type Action, type Caller } from '../domain/key-policy.ts';
import { grants } from '../domain/permissions.ts';
import { DEFAULT_TENANT, evolveTenant, SYSTEM_TENANT, TENANT_ID_PATTERN, type TenantRecord } from '../domain/tenant.ts';
import type { Precondition } from '../events/ledger.ts';
import type { Clock } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { assertFilters } from '../foundation/filters.ts';
import { newId } from '../foundation/ids.ts';
import type { SealedCursors } from '../kms/sealed-cursor.ts';
import {
  type CreateTenantInput,
  parseCreateTenant,
  parseUpdateTenant,
  type TenantSettings,
  type UpdateTenantInput,
} from './tenant-input.ts';
import type { QuarantinedTenant, TenantStorage } from './tenant-storage.ts';

/** A tenant as its administrators see it. */
export interface Tenant {
  readonly id: string;
  /** For `ifMatch`. */
  readonly etag: string;
  readonly name: string;
  readonly state: TenantRecord['state'];
  /** Audiences that its keys may be given, beside those of the service itself. */
  readonly audiences?: readonly string[];
  readonly createdAt: Date;
}

interface TenantManagerDeps {
  readonly exposed: ExposedKeys;
  readonly storage: TenantStorage;
  readonly cache: VerificationCache;
  readonly guard: CallerGuard;
  readonly cursors: SealedCursors;
  readonly clock: Clock;
}

export interface TenantChangeOptions extends ChangeOptions, ConditionalOptions {
  readonly reason?: string;
}

/** Without them nothing works: root lives in one, and the other is where calls go that name none. */
const PERMANENT: ReadonlySet<string> = new Set([SYSTEM_TENANT, DEFAULT_TENANT]);

/** Someone else changed the tenant, or the key of the caller, between reading and writing: read again, this often. */
const ATTEMPTS_MAX = 5;

export class TenantManager {
  readonly #deps: TenantManagerDeps;

  constructor(deps: TenantManagerDeps) {
    this.#deps = deps;
  }

  /** Makes the permanent tenants on the first start; afterwards it changes nothing. */
  async start(by: AuditContext): Promise<void> {
    for (const id of PERMANENT) {
      if ((await this.#deps.storage.find(id)) !== null) continue;
      try {
        await this.#commit(null, this.#event('tenant.created', id, { name: id }, by), []);
      } catch (error) {
        // Another process starts at the same moment.
        if (!isConflict(error)) throw error;
      }
    }
  }

  /** @throws PantheonError `invalid_request`, `already_exists`. */
  async create(input: CreateTenantInput, options: ChangeOptions = {}): Promise<Tenant> {
    const by = assertSystem(options.by, 'tenants.create');
    await this.#deps.exposed.refuseIn({ ...input }, by);
    const { id, name, audiences } = parseCreateTenant(input);
    const after = { name, ...(audiences !== null && { audiences }) };
    for (let attempt = 1; ; attempt += 1) {
      const { preconditions } = await this.#confirm(by, 'tenants.create');
      if ((await this.#deps.storage.find(id)) !== null) throw new PantheonError('already_exists', { field: 'id' });
      try {
        return await this.#commit(null, this.#event('tenant.created', id, after, by.auditContext), preconditions);
      } catch (error) {
        // By somebody who made the same one, which is then found; or the key of the caller changed.
        if (!isConflict(error) || attempt === ATTEMPTS_MAX) throw error;
      }
    }
  }

  /** @throws PantheonError `not_found`. */
  async get(id: string, options: ChangeOptions = {}): Promise<Tenant> {
    assertSystem(options.by, 'tenants.read');
    return toTenant(await this.#load(id));
  }

  /** In order of id. */
  async list(
    page: { readonly cursor?: string; readonly limit?: number } = {},
    options: ChangeOptions = {},
  ): Promise<Page<Tenant | QuarantinedTenant>> {
    assertSystem(options.by, 'tenants.read');
    assertFilters(page);
    const limit = pageSize(page.limit);
    const { cursors, storage } = this.#deps;
    const after = page.cursor === undefined ? null : String(await cursors.read('tenants', SYSTEM_TENANT, page.cursor));
    const found = await storage.list(after, limit + 1);
    const last = found.length > limit ? found[limit - 1] : undefined;
    const nextCursor = last === undefined ? null : await cursors.write('tenants', SYSTEM_TENANT, last.id);
    const items = found.slice(0, limit).map((tenant) => ('quarantined' in tenant ? tenant : toTenant(tenant)));
    return { items, nextCursor };
  }

  /**
   * Changes what is named and leaves the rest; null takes away.
   *
   * @throws PantheonError `invalid_request`, `not_found`, `precondition_failed`.
   */
  async update(
    id: string,
    input: UpdateTenantInput,
    options: ChangeOptions & ConditionalOptions = {},
  ): Promise<Tenant> {
    const by = assertSystem(options.by, 'tenants.update');
    await this.#deps.exposed.refuseIn({ ...input }, by);
    return this.#change(id, by, 'tenants.update', meant(options, this.#load), (tenant) => {
      const settings = parseUpdateTenant(input, tenant);
      const names = (['name', 'audiences'] as const).filter(
        (name) => JSON.stringify(tenant[name]) !== JSON.stringify(settings[name]),
      );
      if (names.length === 0) return null;
      const pick = (from: TenantSettings): JsonObject => Object.fromEntries(names.map((name) => [name, from[name]]));
      return this.#event('tenant.updated', id, pick(settings), by.auditContext, pick(tenant));
    });
  }

  /** One event that refuses all its keys. Twice is success. The system tenant stays: nobody could resume it. */
  suspend(id: string, options: TenantChangeOptions = {}): Promise<Tenant> {
    return this.#setState(id, 'suspended', 'tenants.suspend', options);
  }

  resume(id: string, options: TenantChangeOptions = {}): Promise<Tenant> {
    return this.#setState(id, 'active', 'tenants.suspend', options);
  }

  /** For ever: its keys are unknown from then on, and its id is not used again. */
  delete(id: string, options: TenantChangeOptions = {}): Promise<Tenant> {
    return this.#setState(id, 'deleted', 'tenants.delete', options);
  }

  async #setState(
    id: string,
    state: TenantRecord['state'],
    action: Action,
    options: TenantChangeOptions,
  ): Promise<Tenant> {
    const by = assertSystem(options.by, action);
    await this.#deps.exposed.refuseIn({ reason: options.reason }, by);
    const reason = parseReason(options.reason);
    // One whose row cannot be read can be closed all the same; the row is then written anew.
    const load = state === 'active' ? this.#load : this.#loadToClose;
    return this.#change(id, by, action, meant(options, load), (tenant) => {
      if (tenant.state === state) return null;
      if (id === SYSTEM_TENANT || (state === 'deleted' && PERMANENT.has(id))) {
        throw new PantheonError('not_allowed', { field: 'id', detail: 'This tenant is permanent.' });
      }
      const auditContext = { ...by.auditContext, reason };
      return this.#event(STATE_EVENTS[state], id, { state }, auditContext, { state: tenant.state });
    });
  }

  /** Load, decide, commit; again from the start when someone else was faster. Null from `decide`: it already is so. */
  async #change(
    id: string,
    by: Caller,
    action: Action,
    load: Load,
    decide: (tenant: TenantRecord) => AuditEvent | null,
  ): Promise<Tenant> {
    for (let attempt = 1; ; attempt += 1) {
      const { preconditions } = await this.#confirm(by, action);
      const tenant = await load(id);
      const event = decide(tenant);
      if (event === null) {
        // It already is so, by somebody else perhaps, of whom this node has not heard: what it remembers may be older.
        this.#deps.cache.invalidateTenant(id);
        return toTenant(tenant);
      }
      try {
        return await this.#commit(tenant, event, preconditions);
      } catch (error) {
        if (!isConflict(error) || attempt === ATTEMPTS_MAX) throw error;
      }
    }
  }

  /** The caller as their key is now: what is committed stands only if it still is so then. */
  async #confirm(by: Caller, action: Action): Promise<ConfirmedCall> {
    const standing = await this.#deps.guard.confirm(by);
    assertSystem(standing.caller, action);
    return standing;
  }

  readonly #load = async (id: string): Promise<TenantRecord> => {
    const tenant = TENANT_ID_PATTERN.test(id) ? await this.#deps.storage.find(id) : null;
    if (tenant === null || tenant.state === 'deleted') throw new PantheonError('not_found');
    return tenant;
  };

  readonly #loadToClose = async (id: string): Promise<TenantRecord> => {
    try {
      return await this.#load(id);
    } catch (error) {
      if (!(error instanceof PantheonError && error.code === 'tenant_quarantined')) throw error;
      const tenant = await this.#deps.storage.replay(id);
      if (tenant === null) throw error;
      return tenant;
    }
  };

  async #commit(
    tenant: TenantRecord | null,
    event: AuditEvent,
    preconditions: readonly Precondition[],
  ): Promise<Tenant> {
    const next = evolveTenant(tenant, event);
    try {
      await this.#deps.storage.commit(next, event, preconditions);
    } finally {
      this.#deps.cache.invalidateTenant(next.id);
    }
    return toTenant(next);
  }

  #event(
    type: EventType,
    id: string,
    after: JsonObject,
    by: AuditContext,
    before: JsonObject | null = null,
  ): AuditEvent {
    return {
      id: newId(),
      at: this.#deps.clock.now(),
      tenantId: id,
      type,
      subject: { type: 'tenant', id },
      before,
      after,
      ...by,
    };
  }
}

const STATE_EVENTS = { active: 'tenant.resumed', suspended: 'tenant.suspended', deleted: 'tenant.deleted' } as const;

/** Tenants are managed by keys of the system tenant alone; for anyone else there are none (I10). */
function assertSystem(by: Caller = PROCESS_CALLER, action: Action): Caller {
  const { authority } = by;
  if (authority.kind === 'process') return by;
  if (authority.tenantId !== SYSTEM_TENANT) throw new PantheonError('not_found');
  if (grants(authority.permissions, ACTIONS[action])) return by;
  throw new PantheonError('insufficient_permissions', { detail: `The permission ${ACTIONS[action]} is missing.` });
}

type Load = (id: string) => Promise<TenantRecord>;

/** The record as it is loaded must be the one that the change was decided on. */
function meant({ ifMatch }: ConditionalOptions, load: Load): Load {
  return async (id) => {
    const tenant = await load(id);
    assertMatches(parseIfMatch(ifMatch), entityTag('tenant', tenant.revision));
    return tenant;
  };
}

function isConflict(error: unknown): boolean {
  return error instanceof PantheonError && error.code === 'conflict';
}

function toTenant({ id, name, state, audiences, createdAt, revision }: TenantRecord): Tenant {
  return {
    id,
    etag: entityTag('tenant', revision),
    name,
    state,
    ...(audiences !== null && { audiences }),
    createdAt: new Date(createdAt),
  };
}
