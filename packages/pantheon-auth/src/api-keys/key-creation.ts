/**
 * A key is made: its row, its first version and its event, in one commit that stands only if the caller still does. What
 * is asked for is read by `key-manager.ts`; requests that are repeated are `idempotency-service.ts`.
 */

import { assertAudiences, assertMayHandOut } from '../domain/delegation.ts';
import { createKey, type KeySettings } from '../domain/key.ts';
import { assertMay, type Caller } from '../domain/key-policy.ts';
import { assertTenantActive } from '../domain/tenant.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { type TenantStorage, tenantAsRead } from '../tenants/tenant-storage.ts';
import { type APIKey, toApiKey } from './api-key.ts';
import type { CallerGuard, ConfirmedCall } from './caller-guard.ts';
import type { MakeIdempotencyRecord } from './idempotency-service.ts';
import type { KeyChanges } from './key-changes.ts';
import type { GeneratedKey } from './key-generator.ts';
import { versionSecret } from './version-secret.ts';

/** A new key. The string is shown once: it is not stored. */
export interface CreatedKey {
  readonly key: string;
  readonly apiKey: APIKey;
}

/** What is to be made, and by whom. */
export interface CreateKeyCommand {
  readonly tenantId: string;
  readonly generated: GeneratedKey;
  /** The number of the secret that tagged its id. */
  readonly idTag: number;
  readonly settings: KeySettings;
  readonly by: Caller;
  /** What is written with the key. Null: nothing. */
  readonly makeRecord: MakeIdempotencyRecord | null;
  /** Why, for the log. Default: none. */
  readonly reason?: string;
}

/** The key of the caller changed while it made another one: decided anew. More often is a key that a machine changes. */
const ATTEMPTS_MAX = 3;

export class KeyCreation {
  readonly #changes: KeyChanges;
  readonly #tenants: TenantStorage;
  readonly #guard: CallerGuard;
  readonly #clock: Clock;
  readonly #keyPrefix: string;
  readonly #audiences: readonly string[];

  constructor(deps: {
    readonly changes: KeyChanges;
    readonly tenants: TenantStorage;
    readonly guard: CallerGuard;
    readonly clock: Clock;
    readonly keyPrefix: string;
    readonly audiences: readonly string[];
  }) {
    this.#changes = deps.changes;
    this.#tenants = deps.tenants;
    this.#guard = deps.guard;
    this.#clock = deps.clock;
    this.#keyPrefix = deps.keyPrefix;
    this.#audiences = deps.audiences;
  }

  /** @throws PantheonError `not_grantable`, `not_found`, `not_allowed` (tenant), `conflict` when the id is taken or the companion is already there. */
  async create(command: CreateKeyCommand): Promise<CreatedKey> {
    for (let attempt = 1; ; attempt += 1) {
      const standing = await this.#guard.confirm(command.by);
      try {
        return await this.#createAs(standing, command);
      } catch (error) {
        // What else can stand in the way stands there again, and is told then: an answered request, an id that is taken.
        if (!(attempt < ATTEMPTS_MAX && error instanceof PantheonError && error.code === 'conflict')) throw error;
      }
    }
  }

  async #createAs({ caller, preconditions }: ConfirmedCall, command: CreateKeyCommand): Promise<CreatedKey> {
    const { tenantId, generated, idTag, settings, by, makeRecord } = command;
    assertMay(caller, 'keys.create', tenantId);
    assertMayHandOut(caller, settings);
    const tenant = await this.#tenants.find(tenantId);
    assertTenantActive(tenant);
    assertAudiences(caller, tenant, this.#audiences, settings);
    const createdBy = by.authority.kind === 'key' ? by.authority.keyId : null;
    const auditContext = { ...by.auditContext, reason: command.reason ?? null };
    const { id } = generated;
    const change = createKey({ id, tenantId, createdBy, settings, idTag }, auditContext, this.#clock.now());
    const idempotencyRecords = makeRecord === null ? [] : [makeRecord(id, 1)];
    const sealed = {
      change,
      secrets: [versionSecret(1, generated)],
      preconditions: [...preconditions, tenantAsRead(tenant)],
    };
    await this.#changes.commit(sealed, idempotencyRecords);
    // Nothing is read after the commit: a failure there would lose the only copy of the string.
    const view = { keyPrefix: this.#keyPrefix, now: this.#clock.now() };
    return { key: generated.key, apiKey: toApiKey(change.record, [], view) };
  }
}

/** A row that there can be once: of two nodes that make the first administrator at the same moment, one fails with it. */
export function firstAdministrator(tenantId: string, now: Instant): MakeIdempotencyRecord {
  const once = 'first-administrator';
  const request = { tenant_id: tenantId, caller: 'process', idempotency_key: once, request_hash: once };
  return (keyId, version) => ({ table: 'idempotency', row: { ...request, key_id: keyId, version, created_at: now } });
}
