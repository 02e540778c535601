/**
 * New versions of a key, and the end of old ones. A rotation keeps the key's id, policy, limits, usage and history; the
 * version before it is accepted until its overlap ends.
 */
import { assertMayHandOut } from '../domain/delegation.ts';
import { type KeyRecord, retireVersion, rotateKey } from '../domain/key.ts';
import {
  assertMay,
  assertMayGrant,
  assertNotSuperseded,
  assertProvesCurrent,
  assertWithinCreator,
  type Caller,
} from '../domain/key-policy.ts';
import { assertTenantActive } from '../domain/tenant.ts';
import { type Instant, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { tenantAsRead } from '../tenants/tenant-storage.ts';
import { type APIKey, type APIKeyVersion, toApiKey, toApiKeyVersion } from './api-key.ts';
import { assertIsMeant, type ConditionalOptions } from './conditional-change.ts';
import { idempotentRequest, type MakeIdempotencyRecord } from './idempotency-service.ts';
import { generateKey } from './key-generator.ts';
import { OVERLAP_SECONDS_DEFAULT, parseReason, parseRotateInput, type RotateKeyInput } from './key-input.ts';
import {
  type ChangeOptions,
  type CreateOptions,
  type KeyManager,
  type KeyManagerDeps,
  PROCESS_CALLER,
} from './key-manager.ts';
import type { Settled, SettleOptions } from './propagation.ts';
import { versionSecret } from './version-secret.ts';

export interface Rotation {
  /** The new key string: shown once. */
  readonly key: string;
  readonly apiKey: APIKey;
  readonly previous: { readonly version: number; readonly acceptedUntil: Date };
}

interface Retired {
  readonly answer: APIKeyVersion;
  readonly record: KeyRecord;
}

export class KeyRotation {
  readonly #deps: KeyManagerDeps;
  readonly #keys: KeyManager;
  readonly #tenantId: string;

  constructor(deps: KeyManagerDeps, keys: KeyManager, tenantId: string) {
    this.#deps = deps;
    this.#keys = keys;
    this.#tenantId = tenantId;
  }

  /**
   * Makes the next version. Overlap: what is asked for, else the key's policy, else a day; never beyond its expiry.
   *
   * @throws PantheonError `not_grantable`, `rotation_in_progress`, `version_conflict`, `conflict` when two rotate at once,
   * `key_revoked`, `key_suspended`, `key_expired`, `not_allowed` when the tenant is suspended.
   */
  async rotate(
    id: string,
    input: RotateKeyInput = {},
    options: CreateOptions & SettleOptions & ConditionalOptions = {},
  ): Promise<Rotation & Settled> {
    const { by = PROCESS_CALLER } = options;
    assertMay(by, 'keys.rotate', this.#tenantId);
    const { record } = await this.#keys.load(id);
    const rotate = (): Promise<Rotation> => this.#once(id, input, by, options, null);
    if (options.settle !== true) return rotate();
    return this.#deps.propagation.waitFor(async () => {
      const answer = await rotate();
      return { answer, record, acceptedUntil: answer.previous.acceptedUntil.getTime() };
    });
  }

  /**
   * The holder makes its own next version, proving the current one. Only where the key's policy has a rotation, and
   * with no longer an overlap than that, one at a time, and so often within an hour.
   *
   * With an `idempotencyKey`, a holder whose answer was lost repeats the request with the string it still has, the version
   * before the new one: it gets another secret for the new version, and the lost one is dead. As long as the version
   * before is accepted, and until the new one is used.
   *
   * @throws PantheonError `rate_limited` with the seconds to wait, `not_allowed`, and what {@link KeyRotation.rotate} does.
   */
  async rotateSelf(
    by: Caller,
    input: RotateKeyInput = {},
    options: Pick<CreateOptions, 'idempotencyKey'> & ConditionalOptions = {},
  ): Promise<Rotation> {
    const { authority } = by;
    if (authority.kind !== 'key') throw new PantheonError('not_allowed', { detail: 'Only a key has a self.' });
    const { selfRotations } = this.#deps;
    const { record: before } = await this.#keys.load(authority.keyId);
    // Whoever holds an older version has a budget and a turn of its own: it must not use up those of the holder.
    const account = authority.version === before.version ? before.id : `${before.id}:superseded`;
    return selfRotations.oneAtATime(account, async () => {
      const { record } = await this.#keys.load(authority.keyId);
      await selfRotations.spend(record, account);
      return this.#rotateSelf(record, by, input, options);
    });
  }

  #rotateSelf(
    record: KeyRecord,
    by: Caller,
    input: RotateKeyInput,
    options: Pick<CreateOptions, 'idempotencyKey'> & ConditionalOptions,
  ): Promise<Rotation> {
    if (record.rotation === null) throw noRotationPolicy();
    return this.#once(record.id, input, by, options, record.rotation.overlapSeconds);
  }

  /** Ends an older version before its overlap does. Twice is success. */
  async retire(
    id: string,
    version: number,
    options: ChangeOptions & SettleOptions & ConditionalOptions & { readonly reason?: string } = {},
  ): Promise<APIKeyVersion & Settled> {
    const { by = PROCESS_CALLER } = options;
    assertMay(by, 'keys.rotate', this.#tenantId);
    const retire = (): Promise<Retired> => this.#retire(id, version, by, options);
    return options.settle === true ? this.#deps.propagation.waitFor(retire) : (await retire()).answer;
  }

  async #retire(
    id: string,
    version: number,
    by: Caller,
    options: ConditionalOptions & { readonly reason?: string },
  ): Promise<Retired> {
    await this.#deps.exposed.refuseIn({ reason: options.reason }, by);
    const auditContext = { ...by.auditContext, reason: parseReason(options.reason) };
    const now = this.#deps.clock.now();
    const record = await this.#deps.changes.change(this.#tenantId, id, async (key) => {
      const { caller, preconditions } = await this.#deps.guard.confirm(by);
      assertMay(caller, 'keys.rotate', this.#tenantId);
      // A version that was superseded may end itself, and no other.
      const isOwnVersion = by.authority.kind === 'key' && by.authority.version === version;
      if (!isOwnVersion) assertNotSuperseded(caller, key.record);
      assertIsMeant(options, key.record);
      const change = retireVersion(key.record, version, auditContext, now);
      return change && { change, secrets: key.secrets, preconditions };
    });
    const found = record.versions.find((one) => one.version === version);
    if (found === undefined) throw new PantheonError('not_found', { field: 'version' });
    const usage = await this.#deps.usage.ofKey(this.#tenantId, id);
    const used = usage.find((one) => one.version === version);
    return { answer: toApiKeyVersion(found, used, now), record };
  }

  async #once(
    id: string,
    input: RotateKeyInput,
    by: Caller,
    options: ConditionalOptions & Pick<CreateOptions, 'idempotencyKey'>,
    overlapMaxSeconds: number | null,
  ): Promise<Rotation> {
    const { idempotencyKey } = options;
    const execute = (makeRecord: MakeIdempotencyRecord | null): Promise<Rotation> =>
      this.#rotate(id, input, by, options, overlapMaxSeconds, makeRecord);
    await this.#deps.exposed.refuseIn({ ...input, 'Idempotency-Key': idempotencyKey }, by);
    if (idempotencyKey === undefined) return execute(null);
    const request = idempotentRequest({
      tenantId: this.#tenantId,
      by,
      idempotencyKey,
      operation: 'keys.rotate',
      keyId: id,
      input,
    });
    return this.#deps.idempotency.run(request, by, execute, ({ key, apiKey, record }) => {
      const [, before] = record.versions;
      return {
        key,
        apiKey,
        previous: { version: apiKey.version - 1, acceptedUntil: new Date(before?.acceptedUntil ?? 0) },
      };
    });
  }

  async #rotate(
    id: string,
    input: RotateKeyInput,
    by: Caller,
    condition: ConditionalOptions,
    overlapMaxSeconds: number | null,
    makeRecord: MakeIdempotencyRecord | null,
  ): Promise<Rotation> {
    const { keyPrefix, clock, changes } = this.#deps;
    const { overlapSeconds, expectedVersion } = parseRotateInput(input);
    const { caller, preconditions } = await this.#deps.guard.confirm(by);
    const { record, secrets, tenant } = await this.#keys.load(id);
    // Without a bound of its own it is not the holder who renews itself.
    if (overlapMaxSeconds === null) assertMay(caller, 'keys.rotate', this.#tenantId);
    assertMayRotate(caller, record);
    // The policy may have been taken away since it was first read.
    if (overlapMaxSeconds !== null && record.rotation === null) throw noRotationPolicy();
    if (!isItself(caller, record)) assertMayHandOut(caller, record);
    assertIsMeant(condition, record);
    assertTenantActive(tenant);
    const now = clock.now();
    const policySeconds = record.rotation?.overlapSeconds ?? OVERLAP_SECONDS_DEFAULT;
    const seconds = Math.min(overlapSeconds ?? policySeconds, overlapMaxSeconds ?? Number.POSITIVE_INFINITY);
    const acceptedUntil = earlier(now + seconds * SECOND_MS, record.expiresAt);
    const change = rotateKey(record, { acceptedUntil, expectedVersion }, { ...by.auditContext, reason: null }, now);
    const generated = generateKey({ keyPrefix, environment: record.environment, id });
    const next = versionSecret(change.record.version, generated);
    const idempotencyRecords = makeRecord === null ? [] : [makeRecord(id, change.record.version)];
    // Read before the commit: a failure after it would lose the only copy of the string.
    const usage = (await this.#deps.usage.totalsOf(this.#tenantId, [id])).get(id) ?? [];
    const sealed = { change, secrets: [next, ...secrets], preconditions: [...preconditions, tenantAsRead(tenant)] };
    try {
      await changes.commit(sealed, idempotencyRecords);
    } catch (error) {
      // Somebody else was faster: then it is not what the condition names any more.
      if (isConflict(error)) assertIsMeant(condition, (await this.#keys.load(id)).record);
      throw error;
    }
    const apiKey = toApiKey(change.record, usage, { keyPrefix, now });
    return {
      key: generated.key,
      apiKey,
      previous: { version: record.version, acceptedUntil: new Date(acceptedUntil) },
    };
  }
}

/** A new secret is as good as a new key: it is not the way out of what limits the caller. A key may renew itself. */
function assertMayRotate(by: Caller, record: KeyRecord): void {
  if (isItself(by, record)) {
    assertProvesCurrent(by, record);
    return;
  }
  assertMayGrant(by, record);
  assertWithinCreator(by, record);
}

function isItself({ authority }: Caller, record: KeyRecord): boolean {
  return authority.kind === 'key' && authority.keyId === record.id;
}

function isConflict(error: unknown): boolean {
  return error instanceof PantheonError && error.code === 'conflict';
}

function earlier(one: Instant, other: Instant | null): Instant {
  return other === null ? one : Math.min(one, other);
}

function noRotationPolicy(): PantheonError {
  return new PantheonError('not_allowed', { detail: 'The key has no rotation policy.' });
}
