/**
 * Creates versions of a key and retires older ones. A rotation keeps the key's id, policy, limits, usage and history;
 * the previous version is accepted until the overlap ends.
 */

import { assertIsMeant, type ConditionalOptions } from '../commands/conditional-change.ts';
import { idempotentRequest, type MakeIdempotencyRecord } from '../commands/idempotency-service.ts';
import { parseReason } from '../commands/input.ts';
import type { Settled, SettleOptions } from '../commands/propagation.ts';
import type { AppTypes } from '../domain/app-types.ts';
import { assertCaller, assertOptions, type ChangeOptions, callerIn } from '../domain/caller.ts';
import type { ConfirmedCaller } from '../domain/delegation.ts';
import { type KeyRecord, retireVersion, rotateKey } from '../domain/key.ts';
import { assertMay, assertNotSuperseded, type Caller } from '../domain/key-policy.ts';
import { previousVersion } from '../domain/key-versions.ts';
import { readerOf } from '../domain/reader.ts';
import { overlapEnd } from '../domain/rotation-schedule.ts';
import { assertTenantActive } from '../domain/tenant.ts';
import type { Lane } from '../events/write-lanes.ts';
import type { Instant } from '../foundation/clock.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { tenantAsRead } from '../tenants/tenant-storage.ts';
import type { StoredKey } from '../verification/stored-key.ts';
import { type APIKey, type APIKeyVersion, toApiKey, toApiKeyVersion } from './api-key.ts';
import { generateKey } from './key-generator.ts';
import type { CreateOptions, KeyManager, KeyManagerDeps } from './key-manager.ts';
import { type RollBackOptions, rollBack } from './key-rollback.ts';
import { replaceLostSecret } from './lost-secret.ts';
import { assertMayRotate } from './may-rotate.ts';
import { type NextSecretForHolder, nextSecretOf } from './next-secret-reader.ts';
import { parseRotateInput, type RotateKeyInput } from './rotation-input.ts';
import type { AboutToChange } from './usage-reader.ts';
import { versionSecret } from './version-secret.ts';

export interface Rotation<App extends AppTypes = AppTypes> {
  /** The new key string: shown once. */
  readonly key: string;
  readonly apiKey: APIKey<App>;
  readonly previous: { readonly version: number; readonly acceptedUntil: Date };
}

interface RotateCommand {
  readonly id: string;
  readonly input: RotateKeyInput;
  readonly by: Caller;
  readonly condition: ConditionalOptions;
  /** The key rotates itself, authenticated by its key string. */
  readonly isSelf: boolean;
}

interface Retired {
  readonly answer: APIKeyVersion;
  readonly record: KeyRecord;
}

export class KeyRotation<App extends AppTypes = AppTypes> {
  readonly #deps: KeyManagerDeps;
  readonly #keys: KeyManager<App>;
  readonly #tenantId: string;

  constructor(deps: KeyManagerDeps, keys: KeyManager<App>, tenantId: string) {
    this.#deps = deps;
    this.#keys = keys;
    this.#tenantId = tenantId;
  }

  /**
   * Creates the next version. The overlap is the requested one, else that of the key's policy, else a day; never beyond
   * the expiry of the key.
   *
   * @throws PantheonError `not_grantable`, `rotation_in_progress`, `version_conflict`, `conflict` when two rotate at
   * once, `key_revoked`, `key_suspended`, `key_expired`, `not_allowed` when the tenant is suspended.
   */
  async rotate(
    id: string,
    input: RotateKeyInput = {},
    options: CreateOptions & SettleOptions & ConditionalOptions = {},
  ): Promise<Rotation<App> & Settled> {
    const by = callerIn(options);
    assertMay(by, 'keys.rotate', this.#tenantId);
    const { record } = await this.#keys.load(id, by);
    const command = { id, input, by, condition: options, isSelf: false };
    return this.#deps.propagation.settled(this.#tenantId, options, async () => {
      const answer = await this.#once(command, options.idempotencyKey);
      return { answer, record, acceptedUntil: answer.previous.acceptedUntil.getTime() };
    });
  }

  /**
   * Rotates the caller's own key. The caller must be authenticated by the key string of its current version. Requires a
   * rotation policy on the key; the overlap may not be longer than the policy's. One rotation at a time, and a limited
   * number per hour.
   *
   * With an `idempotencyKey`, a caller that lost the answer can repeat the request with its old key string. It gets
   * another secret for the new version, and the lost secret becomes invalid. This works while the previous version is
   * accepted and until the new one is used.
   *
   * @throws PantheonError `rate_limited` with the seconds to wait, `not_allowed`, and what {@link KeyRotation.rotate}
   * does.
   */
  async rotateSelf(
    by: Caller,
    input: RotateKeyInput = {},
    options: Pick<CreateOptions, 'idempotencyKey'> & ConditionalOptions = {},
  ): Promise<Rotation<App>> {
    assertCaller(by);
    assertOptions(options);
    const { authority } = by;
    if (authority.kind !== 'key')
      throw new PantheonError('not_allowed', { detail: 'Only an API key can make this call.' });
    const { selfRotations } = this.#deps;
    const { record: before } = await this.#keys.load(authority.keyId, by);
    // An older version has its own budget and its own queue position, so that whoever holds it cannot use up those of
    // the current version.
    const account = authority.version === before.version ? before.id : `${before.id}:superseded`;
    return selfRotations.oneAtATime(account, async () => {
      const { record } = await this.#keys.load(authority.keyId, by);
      await selfRotations.spend(record, account);
      if (record.rotation === null) throw noRotationPolicy();
      return this.#once({ id: record.id, input, by, condition: options, isSelf: true }, options.idempotencyKey);
    });
  }

  /**
   * The next key string of the caller's own key, encrypted to the recipient of its rotation policy, after the service has
   * rotated the key and until the new version is used. The caller must be authenticated by the key string of the version
   * before it. {@link PantheonAuth.nextSecret} also accepts one whose overlap has ended.
   *
   * @throws PantheonError `not_found` when there is none.
   */
  next(by: Caller): Promise<NextSecretForHolder> {
    return nextSecretOf(by, this.#deps);
  }

  /**
   * Rolls the key back: the version before the current one is current again, and the rolled-back version is retired for ever,
   * with its tokens. Only while the version before the current one is still accepted. The number of the rolled-back version
   * is not given again.
   *
   * @throws PantheonError `version_conflict` when no version before the current one is still accepted; `version_in_use`
   * when the current version was used, unless `force` is set, which needs `pantheon:keys:force`; and what
   * {@link KeyRotation.rotate} does.
   */
  rollBack(id: string, options: RollBackOptions = {}): Promise<APIKey<App> & Settled> {
    return rollBack(this.#deps, this.#keys, { id, tenantId: this.#tenantId, options });
  }

  /** Retires an older version before its overlap ends. Idempotent. */
  async retire(
    id: string,
    version: number,
    options: ChangeOptions & SettleOptions & ConditionalOptions & { readonly reason?: string } = {},
  ): Promise<APIKeyVersion & Settled> {
    const by = callerIn(options);
    assertMay(by, 'keys.rotate', this.#tenantId);
    return this.#deps.propagation.settled(this.#tenantId, options, () => this.#retire(id, version, by, options));
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
    const usage = await this.#deps.usage.versionsBefore(this.#aboutToChange(id, by, 'protective'));
    const command = {
      by,
      action: 'keys.rotate',
      tenantId: this.#tenantId,
      keyId: id,
      decide: async (key: StoredKey, caller: ConfirmedCaller) => {
        // A superseded version may retire itself and no other.
        const isOwnVersion = by.authority.kind === 'key' && by.authority.version === version;
        if (!isOwnVersion) assertNotSuperseded(caller, key.record);
        assertIsMeant(options, 'key', key.record);
        // A version whose overlap has ended may still fetch the next secret: that ends too.
        const isPrevious = previousVersion(key.record)?.version === version;
        const remains = isPrevious && (await this.#deps.nextSecrets.find(this.#tenantId, id)) !== null;
        const change = retireVersion(key.record, version, auditContext, now, remains);
        return change && { change, secrets: key.secrets };
      },
    } as const;
    const record = await this.#deps.changes.change(command, 'protective');
    const found = record.versions.find((one) => one.version === version);
    if (found === undefined) throw new PantheonError('not_found', { field: 'version' });
    const used = usage.find((one) => one.version === version);
    return { answer: toApiKeyVersion(found, used, now), record };
  }

  async #once(command: RotateCommand, idempotencyKey: string | undefined): Promise<Rotation<App>> {
    const { id: keyId, by, input } = command;
    const { exposed, idempotency } = this.#deps;
    await exposed.refuseIn({ ...input, 'Idempotency-Key': idempotencyKey }, by);
    if (idempotencyKey === undefined) return this.#rotate(command, null);
    const operation = { operation: 'keys.rotate', keyId };
    const request = idempotentRequest({ tenantId: this.#tenantId, by, idempotencyKey, ...operation, input });
    return idempotency.run(request, {
      execute: (makeRecord) => this.#rotate(command, makeRecord),
      again: async (answered) => {
        const { key, apiKey, record } = await replaceLostSecret<App>({ request, answered, by }, this.#deps);
        const before = previousVersion(record);
        const acceptedUntil = new Date(before?.acceptedUntil ?? 0);
        return { key, apiKey, previous: { version: before?.version ?? 0, acceptedUntil } };
      },
    });
  }

  async #rotate(command: RotateCommand, makeRecord: MakeIdempotencyRecord | null): Promise<Rotation<App>> {
    const { id, by, condition, isSelf } = command;
    const { keyPrefix, clock, changes, usage } = this.#deps;
    const input = parseRotateInput(command.input);
    const used = await usage.totalBefore(this.#aboutToChange(id, by, 'ordinary'));
    const rotated = await changes.run({
      by,
      // A key that rotates itself within its policy needs no permission.
      action: isSelf ? null : 'keys.rotate',
      tenantId: this.#tenantId,
      keyId: id,
      load: () => this.#keys.load(id, by),
      decide: (key, caller) => {
        const { record, secrets, tenant } = key;
        assertMayRotate(caller, record);
        // The policy may have been removed since it was first read.
        if (isSelf && record.rotation === null) throw noRotationPolicy();
        assertIsMeant(condition, 'key', record);
        assertTenantActive(tenant);
        const now = clock.now();
        const plan = {
          acceptedUntil: endOfOverlap(input, record, isSelf, now),
          expectedVersion: input.expectedVersion,
          retireOnFirstUse: input.retireOnFirstUse,
        };
        const change = rotateKey(record, plan, { ...by.auditContext, reason: null }, now);
        const generated = generateKey({ keyPrefix, environment: record.environment, id });
        const previous = { version: record.version, acceptedUntil: new Date(plan.acceptedUntil) };
        return {
          change,
          secrets: [versionSecret(change.record.version, generated), ...secrets],
          preconditions: [tenantAsRead(tenant)],
          idempotencyRecords: makeRecord === null ? [] : [makeRecord(id, change.record.version)],
          answer: { key: generated.key, apiKey: toApiKey(change.record, used, { keyPrefix, now }), previous },
        };
      },
      // Without retries: after a conflict a new attempt would end the version that the other request has just created.
      attemptsMax: 1,
      // After a conflict the record no longer matches `ifMatch`, which is the more precise error.
      explainConflict: async () => assertIsMeant(condition, 'key', (await this.#keys.load(id, by)).record),
    });
    invariant(rotated.change !== null, 'a rotation is always a change');
    return rotated.change.answer;
  }

  #aboutToChange(keyId: string, by: Caller, lane: Lane): AboutToChange {
    return { tenantId: this.#tenantId, keyId, reader: readerOf(by, this.#tenantId), lane };
  }
}

/** A key that rotates itself gets at most the overlap of its policy. */
function endOfOverlap(
  { overlapSeconds }: { readonly overlapSeconds: number | null },
  record: KeyRecord,
  isSelf: boolean,
  now: Instant,
): Instant {
  const ofPolicy = overlapEnd(record, null, now);
  const asked = overlapEnd(record, overlapSeconds, now);
  return isSelf ? Math.min(asked, ofPolicy) : asked;
}

function noRotationPolicy(): PantheonError {
  return new PantheonError('not_allowed', { detail: 'The key has no rotation policy.' });
}
