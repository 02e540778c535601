/** Creates, updates, suspends, resumes and deletes tenants. Each change is one event that every node applies. */

import type { CallerGuard } from '../commands/caller.ts';
import type { CommandReads } from '../commands/command-reads.ts';
import { assertIsMeant, type ConditionalOptions } from '../commands/conditional-change.ts';
import { parseReason } from '../commands/input.ts';
import { type Page, pageSize } from '../commands/pages.ts';
import { type Conditional, runCommand } from '../commands/run-command.ts';
import { type ChangeOptions, callerIn, PROCESS_CALLER } from '../domain/caller.ts';
import { entityTag } from '../domain/entity-tag.ts';
import {
  type AuditContext,
  type AuditEventAbout,
  type EventOf,
  type EventTypeOf,
  type NewEvent,
  newEvent,
} from '../domain/event.ts';
import { type Action, assertMay, type Caller } from '../domain/key-policy.ts';
import { readerOf, type ShownReads } from '../domain/reader.ts';
import { DEFAULT_TENANT, evolveTenant, SYSTEM_TENANT, type TenantRecord } from '../domain/tenant.ts';
import { TENANT_ID_PATTERN } from '../domain/tenant-id.ts';
import type { Lane } from '../events/write-lanes.ts';
import type { Clock } from '../foundation/clock.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { assertFilters } from '../foundation/filters.ts';
import type { SealedCursors } from '../kms/sealed-cursor.ts';
import type { KnownTenants } from './known-tenants.ts';
import {
  type CreateTenantInput,
  parseCreateTenant,
  parseUpdateTenant,
  type TenantSettings,
  type UpdateTenantInput,
} from './tenant-input.ts';
import type { LoadedTenant, QuarantinedTenant, TenantStorage } from './tenant-storage.ts';

/** A tenant as shown to administrators. */
export interface Tenant {
  readonly id: string;
  /** For `ifMatch`. */
  readonly etag: string;
  readonly name: string;
  readonly state: TenantRecord['state'];
  /** Audiences that its keys may have, in addition to those of the service. */
  readonly audiences?: readonly string[];
  readonly createdAt: Date;
}

interface TenantManagerDeps {
  /** Refuses text that contains a credential. */
  readonly exposed: { refuseIn(texts: object, by: Caller): Promise<void> };
  readonly storage: TenantStorage;
  readonly known: KnownTenants;
  /** The cache of keys of this node. */
  readonly cache: { invalidateTenant(id: string): void };
  readonly guard: CallerGuard;
  readonly commandReads: CommandReads;
  readonly shownReads: ShownReads;
  readonly cursors: SealedCursors;
  readonly clock: Clock;
}

export interface TenantChangeOptions extends ChangeOptions, ConditionalOptions {
  readonly reason?: string;
}

type TenantEvent = AuditEventAbout<'tenant'>;

interface TenantChange extends Conditional, Pick<LoadedTenant, 'revisionAsStored'> {
  readonly event: TenantEvent;
  readonly next: TenantRecord;
}

/** A command on a tenant. Only keys of the system tenant may run it; for other callers tenants do not exist (I10). */
interface TenantCommand<Loaded extends LoadedTenant | null> {
  readonly id: string;
  readonly by: Caller;
  readonly action: Action;
  /** The lane of its event. */
  readonly lane: Lane;
  readonly load: () => Promise<Loaded>;
  /** Null: nothing to change. */
  readonly decide: (tenant: Loaded) => TenantEvent | null;
}

const PAGE: ReadonlySet<string> = new Set(['cursor', 'limit']);
/** Tenants that cannot be removed: the root key is in one, and the other is the default of calls. */
const PERMANENT: ReadonlySet<string> = new Set([SYSTEM_TENANT, DEFAULT_TENANT]);

export class TenantManager {
  readonly #deps: TenantManagerDeps;

  constructor(deps: TenantManagerDeps) {
    this.#deps = deps;
  }

  /** Creates the permanent tenants if they are missing. */
  async start(by: AuditContext): Promise<void> {
    for (const id of PERMANENT) {
      await this.#run({
        id,
        by: { authority: PROCESS_CALLER.authority, auditContext: by },
        action: 'tenants.create',
        lane: 'ordinary',
        load: () => this.#deps.storage.find(id),
        // Another process that starts at the same time may have created it.
        decide: (tenant) =>
          tenant === null ? this.#event('tenant.created', id, { before: null, after: { name: id } }, by) : null,
      });
    }
  }

  /** @throws PantheonError `invalid_request`, `already_exists`. */
  async create(input: CreateTenantInput, options: ChangeOptions = {}): Promise<Tenant> {
    const by = callerIn(options);
    assertMay(by, 'tenants.create', SYSTEM_TENANT);
    await this.#deps.exposed.refuseIn({ ...input }, by);
    const { id, name, audiences } = parseCreateTenant(input);
    const after = { name, ...(audiences !== null && { audiences }) };
    const tenant = await this.#run({
      id,
      by,
      action: 'tenants.create',
      lane: 'ordinary',
      load: () => this.#deps.storage.find(id),
      decide: (known) => {
        if (known !== null) throw new PantheonError('already_exists', { field: 'id' });
        return this.#event('tenant.created', id, { before: null, after }, by.auditContext);
      },
    });
    invariant(tenant !== null, 'what was created is there');
    return toTenant(tenant);
  }

  /** @throws PantheonError `not_found`. */
  async get(id: string, options: ChangeOptions = {}): Promise<Tenant> {
    const by = callerIn(options);
    assertMay(by, 'tenants.read', SYSTEM_TENANT);
    const shown = { by, action: 'tenants.read', tenantId: SYSTEM_TENANT } as const;
    return toTenant(await this.#deps.shownReads.run(shown, () => this.#load(id, 'ordinary')));
  }

  /**
   * Checks that the tenant named by a request exists. Needs no permission, because a key of the system tenant may know
   * that. `by` is whose turn the read takes.
   *
   * @throws PantheonError `not_found`, `tenant_quarantined`.
   */
  async assertThere(id: string, by: Caller): Promise<void> {
    await this.#deps.known.confirm(id, readerOf(by, SYSTEM_TENANT), () =>
      this.#inTurn(by, 'ordinary', () => this.#load(id, 'ordinary')),
    );
  }

  /** Lists tenants, ordered by id. */
  async list(
    page: { readonly cursor?: string; readonly limit?: number } = {},
    options: ChangeOptions = {},
  ): Promise<Page<Tenant | QuarantinedTenant>> {
    const by = callerIn(options);
    assertMay(by, 'tenants.read', SYSTEM_TENANT);
    assertFilters(page, PAGE);
    const limit = pageSize(page.limit);
    const { cursors, storage, shownReads } = this.#deps;
    const after = page.cursor === undefined ? null : String(await cursors.read('tenants', SYSTEM_TENANT, page.cursor));
    const shown = { by, action: 'tenants.read', tenantId: SYSTEM_TENANT } as const;
    const found = await shownReads.run(shown, () => storage.list(after, limit + 1));
    const last = found.length > limit ? found[limit - 1] : undefined;
    const nextCursor = last === undefined ? null : await cursors.write('tenants', SYSTEM_TENANT, last.id);
    const items = found.slice(0, limit).map((tenant) => ('quarantined' in tenant ? tenant : toTenant(tenant)));
    return { items, nextCursor };
  }

  /**
   * Updates a tenant. Members that are not given stay as they are; null removes a member.
   *
   * @throws PantheonError `invalid_request`, `not_found`, `precondition_failed`.
   */
  async update(
    id: string,
    input: UpdateTenantInput,
    options: ChangeOptions & ConditionalOptions = {},
  ): Promise<Tenant> {
    const by = callerIn(options);
    assertMay(by, 'tenants.update', SYSTEM_TENANT);
    await this.#deps.exposed.refuseIn({ ...input }, by);
    const decide = (tenant: TenantRecord): TenantEvent | null => {
      assertIsMeant(options, 'tenant', tenant);
      const settings = parseUpdateTenant(input, tenant);
      const names = (['name', 'audiences'] as const).filter(
        (name) => JSON.stringify(tenant[name]) !== JSON.stringify(settings[name]),
      );
      if (names.length === 0) return null;
      const pick = (from: TenantSettings): Partial<TenantSettings> =>
        Object.fromEntries(names.map((name) => [name, from[name]]));
      return this.#event('tenant.updated', id, { before: pick(tenant), after: pick(settings) }, by.auditContext);
    };
    const load = (): Promise<TenantRecord> => this.#load(id, 'ordinary');
    return toTenant(await this.#run({ id, by, action: 'tenants.update', lane: 'ordinary', load, decide }));
  }

  /**
   * Suspends a tenant: all its keys are denied. Idempotent. The system tenant cannot be suspended, because nobody could
   * resume it.
   */
  suspend(id: string, options: TenantChangeOptions = {}): Promise<Tenant> {
    return this.#setState(id, 'suspended', 'tenants.suspend', options);
  }

  resume(id: string, options: TenantChangeOptions = {}): Promise<Tenant> {
    return this.#setState(id, 'active', 'tenants.suspend', options);
  }

  /** Deletes a tenant. Final: its keys are unknown from then on, and its id cannot be used again. */
  delete(id: string, options: TenantChangeOptions = {}): Promise<Tenant> {
    return this.#setState(id, 'deleted', 'tenants.delete', options);
  }

  async #setState(
    id: string,
    state: TenantRecord['state'],
    action: Action,
    options: TenantChangeOptions,
  ): Promise<Tenant> {
    const by = callerIn(options);
    assertMay(by, action, SYSTEM_TENANT);
    await this.#deps.exposed.refuseIn({ reason: options.reason }, by);
    const reason = parseReason(options.reason);
    // A damaged tenant can still be suspended or deleted; its row is then written again.
    const lane = state === 'active' ? 'ordinary' : 'protective';
    const load = (): Promise<LoadedTenant> => (state === 'active' ? this.#load(id, lane) : this.#loadToClose(id, lane));
    const decide = (tenant: TenantRecord): TenantEvent | null => {
      assertIsMeant(options, 'tenant', tenant);
      if (tenant.state === state) return null;
      if (id === SYSTEM_TENANT || (state === 'deleted' && PERMANENT.has(id))) {
        throw new PantheonError('not_allowed', { field: 'id', detail: 'This tenant is permanent.' });
      }
      const auditContext = { ...by.auditContext, reason };
      const change = { before: { state: tenant.state }, after: { state } };
      return this.#event(STATE_EVENTS[state], id, change, auditContext);
    };
    return toTenant(await this.#run({ id, by, action, lane, load, decide }));
  }

  /** Runs a command on one tenant and returns the new record. */
  async #run<Loaded extends LoadedTenant | null>(command: TenantCommand<Loaded>): Promise<Loaded | TenantRecord> {
    const { id, by, action, lane } = command;
    const { loaded, change } = await runCommand(
      {
        by,
        action,
        tenantId: SYSTEM_TENANT,
        load: () => this.#inTurn(by, lane, command.load),
        decide: (tenant): TenantChange | null => {
          const event = command.decide(tenant);
          return event && { event, next: evolveTenant(tenant, event), revisionAsStored: tenant?.revisionAsStored };
        },
        commit: ({ next, event, preconditions, revisionAsStored }) =>
          this.#deps.storage.commit(next, event, preconditions, revisionAsStored),
        invalidate: () => {
          this.#deps.known.forget(id);
          this.#deps.cache.invalidateTenant(id);
        },
      },
      this.#deps.guard,
    );
    return change?.next ?? loaded;
  }

  #inTurn<T>(by: Caller, lane: Lane, read: () => Promise<T>): Promise<T> {
    return this.#deps.commandReads.run(lane, readerOf(by, SYSTEM_TENANT), read);
  }

  async #load(id: string, lane: Lane): Promise<TenantRecord> {
    const tenant = TENANT_ID_PATTERN.test(id) ? await this.#deps.storage.find(id, lane) : null;
    if (tenant === null || tenant.state === 'deleted') throw new PantheonError('not_found');
    return tenant;
  }

  async #loadToClose(id: string, lane: Lane): Promise<LoadedTenant> {
    try {
      return await this.#load(id, lane);
    } catch (error) {
      if (!(error instanceof PantheonError && error.code === 'tenant_quarantined')) throw error;
      const tenant = await this.#deps.storage.rebuild(id, lane);
      if (tenant === null) throw error;
      return tenant;
    }
  }

  #event<Type extends EventTypeOf<'tenant'>>(
    type: Type,
    id: string,
    { before, after }: Pick<NewEvent<Type>, 'before' | 'after'>,
    by: AuditContext,
  ): EventOf<Type> {
    return newEvent(type, { at: this.#deps.clock.now(), tenantId: id, subjectId: id, before, after }, by);
  }
}

const STATE_EVENTS = { active: 'tenant.resumed', suspended: 'tenant.suspended', deleted: 'tenant.deleted' } as const;

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
