/**
 * Creates, changes and reads keys of one tenant. Permission rules are in `domain/key-policy.ts`, rotation in
 * `key-rotation.ts`, verification in `key-validator.ts`.
 */

import type { CommandReads } from '../commands/command-reads.ts';
import { assertIsMeant } from '../commands/conditional-change.ts';
import {
  type IdempotencyService,
  idempotentRequest,
  type MakeIdempotencyRecord,
} from '../commands/idempotency-service.ts';
import { parseReason } from '../commands/input.ts';
import type { Page } from '../commands/pages.ts';
import type { Propagation, Settled } from '../commands/propagation.ts';
import { losesAdminRights } from '../domain/administrator.ts';
import type { AppTypes } from '../domain/app-types.ts';
import { assertCaller, assertOptions, type ChangeOptions, callerIn, PROCESS_CALLER } from '../domain/caller.ts';
import { assertAudiences, assertMayChange, assertMayHandOut, type ConfirmedCaller } from '../domain/delegation.ts';
import type { AuditContext } from '../domain/event.ts';
import { type KeyChange, type KeyRecord, type KeySettings, resumeKey, suspendKey, updateKey } from '../domain/key.ts';
import {
  assertMay,
  assertMayGrant,
  assertNotSuperseded,
  assertWithinCreator,
  type Caller,
} from '../domain/key-policy.ts';
import { readerOf } from '../domain/reader.ts';
import type { TenantRecord } from '../domain/tenant.ts';
import type { Precondition } from '../events/ledger.ts';
import type { Lane } from '../events/write-lanes.ts';
import { PantheonError } from '../foundation/errors.ts';
import { type TenantStorage, tenantAsRead } from '../tenants/tenant-storage.ts';
import type { UsageReport, UsageRequest } from '../usage/usage-query.ts';
import type { KeyUsage } from '../usage/usage-rows.ts';
import type { StoredKey } from '../verification/stored-key.ts';
import type { Administrators } from './administrators.ts';
import { type APIKey, type APIKeyVersion, toApiKey } from './api-key.ts';
import type { ExposedKeys } from './exposed-keys.ts';
import type { IdTags } from './id-tags.ts';
import type { KeyActs } from './key-acts.ts';
import { type CreatedKey, firstAdministrator, KeyCreation } from './key-creation.ts';
import type { KeyDescendants } from './key-descendants.ts';
import { generateKey, type TaggedKey } from './key-generator.ts';
import { type CreateKeyInput, parseCreateInput } from './key-input.ts';
import { type KeyFilter, KeyLists, type KeyListsDeps } from './key-lists.ts';
import { parseUpdateInput, type UpdateKeyInput } from './key-patch.ts';
import { assertFlags, type Cascaded, KeyRevocation, type RevokeOptions } from './key-revocation.ts';
import type { QuarantinedKey } from './key-storage.ts';
import { replaceLostSecret } from './lost-secret.ts';
import type { NextSecrets } from './next-secrets.ts';
import type { SelfRotations } from './self-rotations.ts';

/** Options of lists, searches and reports. */
export interface ReadOptions extends ChangeOptions {
  /** Aborts the call, which then throws the reason of the signal. */
  readonly signal?: AbortSignal;
}

export interface CreateOptions extends ChangeOptions {
  /**
   * If the call is repeated with the same `idempotencyKey` and input, the secret of the first call is replaced, unless
   * it has been used.
   */
  readonly idempotencyKey?: string;
}

export type { CreatedKey };

export interface KeyManagerDeps extends KeyListsDeps {
  readonly exposed: ExposedKeys;
  readonly administrators: Administrators;
  readonly descendants: KeyDescendants;
  readonly acts: KeyActs;
  readonly tenants: TenantStorage;
  readonly commandReads: CommandReads;
  readonly idempotency: IdempotencyService;
  readonly idTags: IdTags;
  readonly selfRotations: SelfRotations;
  readonly nextSecrets: NextSecrets;
  readonly propagation: Propagation;
  /** The audiences of the service itself, which any key may have. */
  readonly audiences: readonly string[];
}

export class KeyManager<App extends AppTypes = AppTypes> {
  readonly #deps: KeyManagerDeps;
  readonly #creation: KeyCreation<App>;
  readonly #revocation: KeyRevocation;
  readonly #lists: KeyLists<App>;
  readonly #tenantId: string;

  constructor(deps: KeyManagerDeps, tenantId: string) {
    this.#deps = deps;
    this.#creation = new KeyCreation(deps);
    this.#revocation = new KeyRevocation(deps);
    this.#lists = new KeyLists(deps, tenantId);
    this.#tenantId = tenantId;
  }

  /**
   * Creates an API key. The result contains the key string, which is not stored and not shown again.
   *
   * @throws PantheonError `invalid_request` (names the field), `not_grantable`, `not_found` (tenant),
   * `already_claimed`.
   */
  async create(input: CreateKeyInput<App>, options: CreateOptions = {}): Promise<CreatedKey<App>> {
    const by = callerIn(options);
    const { idempotencyKey } = options;
    const now = this.#deps.clock.now();
    assertMay(by, 'keys.create', this.#tenantId);
    await this.#deps.exposed.refuseIn({ ...input, 'Idempotency-Key': idempotencyKey }, by);
    const settings = parseCreateInput(input, now);
    assertMayGrant(by, settings);
    assertWithinCreator(by, settings);
    const execute = (makeRecord: MakeIdempotencyRecord | null): Promise<CreatedKey<App>> =>
      this.#creation.create({ tenantId: this.#tenantId, ...this.#generate(settings), settings, by, makeRecord });
    if (idempotencyKey === undefined) return execute(null);
    const operation = { operation: 'keys.create', keyId: null };
    const request = idempotentRequest({ tenantId: this.#tenantId, by, idempotencyKey, ...operation, input });
    return this.#deps.idempotency.run(request, {
      execute,
      again: async (answered) => {
        const { key, apiKey } = await replaceLostSecret<App>({ request, answered, by }, this.#deps);
        return { key, apiKey };
      },
    });
  }

  /**
   * Creates an administrator with a key string that has already been stored by the caller. `first`: when several nodes
   * do this at the same time, one succeeds.
   *
   * @throws PantheonError `conflict`
   */
  async createRoot({ generated, idTag }: TaggedKey, kind: 'first' | 'recovered'): Promise<APIKey<App>> {
    const input = { userId: 'root', name: 'root', permissions: ['pantheon:*'], grantable: ['*'] };
    const now = this.#deps.clock.now();
    const settings = parseCreateInput(input, now);
    const common = { tenantId: this.#tenantId, generated, idTag, settings, by: PROCESS_CALLER };
    const order =
      kind === 'first'
        ? { ...common, makeRecord: firstAdministrator(this.#tenantId, now) }
        : { ...common, makeRecord: null, reason: 'recovered' };
    return (await this.#creation.create(order)).apiKey;
  }

  /** @throws PantheonError `not_found`, `key_quarantined`. */
  async get(id: string, options: ChangeOptions = {}): Promise<APIKey<App>> {
    const by = callerIn(options);
    assertMay(by, 'keys.read', this.#tenantId);
    return this.#lists.get(id, by);
  }

  /**
   * Lists keys, newest first. A damaged key is listed as {@link QuarantinedKey}. A page may have fewer keys than
   * `limit`, or none, although there are more: see {@link Page}.
   *
   * @throws PantheonError `invalid_request`, `invalid_cursor`; `overloaded` when too many lists of this tenant wait, or this one waited too long.
   */
  async list(filter: KeyFilter = {}, options: ReadOptions = {}): Promise<Page<APIKey<App> | QuarantinedKey>> {
    return this.#lists.list(filter, { by: callerIn(options), signal: options.signal });
  }

  /** Lists the versions of a key, newest first, with their usage. */
  async versions(id: string, options: ChangeOptions = {}): Promise<readonly APIKeyVersion[]> {
    const by = callerIn(options);
    assertMay(by, 'keys.read', this.#tenantId);
    return this.#lists.versions(id, by);
  }

  /** The usage of one key by outcome and time, or of all keys of the tenant when `id` is null. */
  async usage(
    id: string | null,
    range: Omit<UsageRequest, 'tenantId' | 'keyId'>,
    options: ReadOptions = {},
  ): Promise<UsageReport> {
    const by = callerIn(options);
    const { signal } = options;
    assertMay(by, 'keys.read', this.#tenantId);
    return this.#lists.report({ ...range, keyId: id }, { by, signal });
  }

  /**
   * Updates a key. Members that are not given stay as they are; null removes a member. @throws PantheonError
   * `invalid_request`, `not_grantable`, `key_revoked`, `not_found`.
   */
  async update(id: string, input: UpdateKeyInput<App>, options: RevokeOptions = {}): Promise<APIKey<App> & Settled> {
    const by = callerIn(options);
    assertMay(by, 'keys.update', this.#tenantId);
    await this.#deps.exposed.refuseIn({ ...input }, by);
    return this.#change(id, 'ordinary', options, async (record, caller, tenant) => {
      assertMayGrant(caller, record);
      assertIsMeant(options, 'key', record);
      const settings = parseUpdateInput(input, record, this.#deps.clock.now());
      assertMayChange(caller, record, settings);
      assertAudiences(caller, tenant, this.#deps.audiences, settings, record);
      const others = losesAdminRights(record, settings, this.#deps.clock.now())
        ? await this.#deps.administrators.requireAnotherAdmin(record, options.force)
        : [];
      const auditContext = { ...by.auditContext, reason: null };
      const change = updateKey(record, settings, auditContext, this.#deps.clock.now());
      // The decision used the audiences of the tenant, so its row is a precondition.
      const preconditions = settings.jwt === record.jwt ? others : [...others, tenantAsRead(tenant)];
      return { change, preconditions };
    });
  }

  /** Suspends a key: it is denied until it is resumed. Idempotent. */
  async suspend(id: string, options: RevokeOptions = {}): Promise<APIKey<App> & Settled> {
    const by = callerIn(options);
    assertMay(by, 'keys.update', this.#tenantId);
    const auditContext = await this.#auditContext(by, options.reason);
    return this.#change(id, 'protective', options, async (record) => {
      assertIsMeant(options, 'key', record);
      const change = suspendKey(record, auditContext, this.#deps.clock.now());
      // Suspending a suspended key changes nothing, so it needs no other administrator.
      if (change === null) return { change, preconditions: [] };
      return { change, preconditions: await this.#deps.administrators.requireAnotherAdmin(record, options.force) };
    });
  }

  /** Resumes a suspended key. A revoked key cannot be resumed. */
  async resume(id: string, options: RevokeOptions = {}): Promise<APIKey<App> & Settled> {
    const by = callerIn(options);
    assertMay(by, 'keys.update', this.#tenantId);
    const auditContext = await this.#auditContext(by, options.reason);
    return this.#change(id, 'ordinary', options, (record, caller) => {
      assertMayHandOut(caller, record);
      assertIsMeant(options, 'key', record);
      return { change: resumeKey(record, auditContext, this.#deps.clock.now()), preconditions: [] };
    });
  }

  /**
   * Revokes a key and every token made from it. Final. Idempotent.
   *
   * @throws PantheonError `not_found`, `last_administrator`, `version_conflict` when the caller is an older version of
   * this key.
   */
  async revoke(id: string, options: RevokeOptions = {}): Promise<APIKey<App> & Cascaded & Settled> {
    const by = callerIn(options);
    assertMay(by, 'keys.revoke', this.#tenantId);
    return this.#revoke(id, by, options, false);
  }

  /**
   * Revokes the caller's own key. The caller must be authenticated by the key string of its current version. Needs no
   * permission.
   *
   * @throws PantheonError `not_allowed` for a token, `version_conflict` for an older version, `last_administrator`.
   */
  async revokeSelf(by: Caller, options: Pick<RevokeOptions, 'reason' | 'ifMatch'> = {}): Promise<APIKey<App>> {
    assertOptions(options);
    const id = selfId(by);
    // A key of another tenant counts as not existing (I10), also for in-process code that constructs its own caller.
    await this.#deps.changes.loadToRevoke(this.#tenantId, id, readerOf(by, this.#tenantId));
    const { reason, ifMatch } = options;
    const own = { ...(reason !== undefined && { reason }), ...(ifMatch !== undefined && { ifMatch }) };
    return this.#revoke(id, by, own, true);
  }

  /** The caller's own key. */
  async getSelf(by: Caller): Promise<APIKey<App>> {
    return this.#lists.get(selfId(by), by, null);
  }

  /** The key with its secrets, for other parts of the library. @throws PantheonError `not_found`. */
  load(id: string, by: Caller = PROCESS_CALLER): Promise<StoredKey> {
    return this.#deps.changes.load(this.#tenantId, id, readerOf(by, this.#tenantId));
  }

  #generate({ environment }: KeySettings): TaggedKey {
    const { id, number } = this.#deps.idTags.newId();
    return { generated: generateKey({ keyPrefix: this.#deps.keyPrefix, environment, id }), idTag: number };
  }

  async #revoke(
    id: string,
    by: Caller,
    options: RevokeOptions,
    isSelf: boolean,
  ): Promise<APIKey<App> & Cascaded & Settled> {
    assertFlags(options);
    const { cascade = false, force = false, ifMatch } = options;
    const auditContext = await this.#auditContext(by, options.reason);
    const condition = ifMatch === undefined ? {} : { ifMatch };
    const ending = { tenantId: this.#tenantId, keyId: id, by, auditContext, isSelf, cascade, force, condition };
    return this.#deps.propagation.settled(this.#tenantId, options, async () => {
      const used = await this.#usedBefore(id, by, 'protective');
      const { record, actedOn } = await this.#revocation.end(ending);
      const answer = { ...this.#show(record, used), ...(actedOn !== null && { actedOn }) };
      return { answer, record: cascade === false ? record : null };
    });
  }

  /** `decide` is passed the caller with their key as it is now. */
  #change(id: string, lane: Lane, options: RevokeOptions, decide: Decide): Promise<APIKey<App> & Settled> {
    assertFlags(options);
    const by = callerIn(options);
    const tenantId = this.#tenantId;
    return this.#deps.propagation.settled(this.#tenantId, options, async () => {
      const used = await this.#usedBefore(id, by, lane);
      const command = {
        by,
        action: 'keys.update',
        tenantId,
        keyId: id,
        decide: async ({ record, secrets, tenant }: StoredKey, caller: ConfirmedCaller) => {
          if (options.force === true) assertMay(caller, 'keys.force', tenantId);
          assertNotSuperseded(caller, record);
          const { change, preconditions } = await decide(record, caller, tenant);
          return change && { change, secrets, preconditions };
        },
      } as const;
      const record = await this.#deps.changes.change(command, lane);
      return { answer: this.#show(record, used), record };
    });
  }

  #usedBefore(keyId: string, by: Caller, lane: Lane): Promise<readonly KeyUsage[]> {
    const tenantId = this.#tenantId;
    return this.#deps.usage.totalBefore({ tenantId, keyId, reader: readerOf(by, tenantId), lane });
  }

  /** Reads nothing, because a failing read would turn a committed change into an error. */
  #show(record: KeyRecord, used: readonly KeyUsage[]): APIKey<App> {
    return toApiKey<App>(record, used, { keyPrefix: this.#deps.keyPrefix, now: this.#deps.clock.now() });
  }

  async #auditContext(by: Caller, reason: string | undefined): Promise<AuditContext> {
    await this.#deps.exposed.refuseIn({ reason }, by);
    return { ...by.auditContext, reason: parseReason(reason) };
  }
}

function selfId(by: Caller): string {
  assertCaller(by);
  if (by.authority.kind !== 'key')
    throw new PantheonError('not_allowed', { detail: 'Only an API key can make this call.' });
  return by.authority.keyId;
}

/** A change and its preconditions. */
type Decided = { readonly change: KeyChange | null; readonly preconditions: readonly Precondition[] };
type Decide = (record: KeyRecord, caller: ConfirmedCaller, tenant: TenantRecord) => Decided | Promise<Decided>;
