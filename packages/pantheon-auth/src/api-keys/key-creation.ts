/**
 * Creates a key: its row, first version and event, in one commit that fails if the caller's key has changed.
 * `key-manager.ts` parses the input; `idempotency-service.ts` handles repeated requests.
 */

import type { CommandReads } from '../commands/command-reads.ts';
import type { MakeIdempotencyRecord } from '../commands/idempotency-service.ts';
import type { AppTypes } from '../domain/app-types.ts';
import { assertAudiences, assertMayHandOut, assertMayNameRecipient } from '../domain/delegation.ts';
import { createKey, type KeySettings } from '../domain/key.ts';
import type { Caller } from '../domain/key-policy.ts';
import { readerOf } from '../domain/reader.ts';
import { assertTenantActive } from '../domain/tenant.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import { invariant } from '../foundation/errors.ts';
import { type TenantStorage, tenantAsRead } from '../tenants/tenant-storage.ts';
import { type APIKey, toApiKey } from './api-key.ts';
import type { KeyChanges, KeyDecision } from './key-changes.ts';
import type { GeneratedKey } from './key-generator.ts';
import { versionSecret } from './version-secret.ts';

/** A new key. The string is shown once: it is not stored. */
export interface CreatedKey<App extends AppTypes = AppTypes> {
  readonly key: string;
  readonly apiKey: APIKey<App>;
}

/** The key to create, and the caller. */
export interface CreateKeyCommand {
  readonly tenantId: string;
  readonly generated: GeneratedKey;
  /** The number of the secret that tagged its id. */
  readonly idTag: number;
  readonly settings: KeySettings;
  readonly by: Caller;
  /** Makes the idempotency record that is committed with the key. Null: none. */
  readonly makeRecord: MakeIdempotencyRecord | null;
  /** The reason, for the audit trail. Default: none. */
  readonly reason?: string;
}

export class KeyCreation<App extends AppTypes = AppTypes> {
  readonly #changes: KeyChanges;
  readonly #reads: CommandReads;
  readonly #tenants: TenantStorage;
  readonly #clock: Clock;
  readonly #keyPrefix: string;
  readonly #audiences: readonly string[];

  constructor(deps: {
    readonly changes: KeyChanges;
    readonly commandReads: CommandReads;
    readonly tenants: TenantStorage;
    readonly clock: Clock;
    readonly keyPrefix: string;
    readonly audiences: readonly string[];
  }) {
    this.#changes = deps.changes;
    this.#reads = deps.commandReads;
    this.#tenants = deps.tenants;
    this.#clock = deps.clock;
    this.#keyPrefix = deps.keyPrefix;
    this.#audiences = deps.audiences;
  }

  /** @throws PantheonError `not_grantable`, `not_found`, `not_allowed` (tenant), `conflict` when the id is taken or the companion is already there. */
  async create(command: CreateKeyCommand): Promise<CreatedKey<App>> {
    const { tenantId, generated, by } = command;
    const { change } = await this.#changes.run({
      by,
      action: 'keys.create',
      tenantId,
      keyId: generated.id,
      load: () => this.#reads.run('ordinary', readerOf(by, tenantId), () => this.#tenants.find(tenantId)),
      decide: (tenant, caller) => {
        assertMayHandOut(caller, command.settings);
        assertMayNameRecipient(caller, tenantId, command.settings);
        assertTenantActive(tenant);
        assertAudiences(caller, tenant, this.#audiences, command.settings);
        return { ...this.#decide(command), preconditions: [tenantAsRead(tenant)] };
      },
    });
    invariant(change !== null, 'a new key is always a change');
    // Nothing is read after the commit, because a failure then would lose the only copy of the key string.
    const view = { keyPrefix: this.#keyPrefix, now: this.#clock.now() };
    return { key: generated.key, apiKey: toApiKey(change.change.record, [], view) };
  }

  #decide({ tenantId, generated, idTag, settings, by, makeRecord, reason }: CreateKeyCommand): KeyDecision {
    const createdBy = by.authority.kind === 'key' ? by.authority.keyId : null;
    const { id } = generated;
    const auditContext = { ...by.auditContext, reason: reason ?? null };
    return {
      change: createKey({ id, tenantId, createdBy, settings, idTag }, auditContext, this.#clock.now()),
      secrets: [versionSecret(1, generated)],
      idempotencyRecords: makeRecord === null ? [] : [makeRecord(id, 1)],
    };
  }
}

/**
 * An idempotency record with a fixed key, so that of two nodes that create the first administrator at the same time one
 * fails.
 */
export function firstAdministrator(tenantId: string, now: Instant): MakeIdempotencyRecord {
  const once = 'first-administrator';
  const request = { tenant_id: tenantId, caller: 'process', idempotency_key: once, request_hash: once };
  return (keyId, version) => ({ table: 'idempotency', row: { ...request, key_id: keyId, version, created_at: now } });
}
