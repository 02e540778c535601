/**
 * Requests that were answered, so that a repeated one is not carried out twice. The secret in the first answer is gone
 * (I1), so a repeated request *replaces* it, as long as nobody has used it; after that it is refused.
 */
import { createHash } from 'node:crypto';
import { assertMayHandOut, type ConfirmedCaller } from '../domain/delegation.ts';
import { type KeyRecord, replaceSecret } from '../domain/key.ts';
import { assertMay, assertProvesCurrent, type Caller } from '../domain/key-policy.ts';
import { assertTenantActive } from '../domain/tenant.ts';
import type { IdempotencyRecord } from '../events/ledger.ts';
import { type Clock, DAY_MS } from '../foundation/clock.ts';
import { CODES } from '../foundation/codes.ts';
import { canonicalJson } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { tenantAsRead } from '../tenants/tenant-storage.ts';
import { type APIKey, toApiKey } from './api-key.ts';
import type { CallerGuard } from './caller-guard.ts';
import type { AnsweredRequest, IdempotencyRows } from './idempotency-rows.ts';
import type { ChangeableKey, KeyChanges } from './key-changes.ts';
import { generateKey } from './key-generator.ts';
import type { UsageReader } from './usage-reader.ts';
import { versionSecret } from './version-secret.ts';

/** How long an answer is remembered: longer than any client retries. */
export const ANSWER_KEPT_MS: number = DAY_MS;
const IDEMPOTENCY_KEY_PATTERN = /^[\x21-\x7e]{1,255}$/;

export interface RequestIdentity
  extends Pick<AnsweredRequest, 'tenantId' | 'caller' | 'idempotencyKey' | 'requestHash'> {
  /** The key that it changes; null: it creates one. */
  readonly keyId: string | null;
}
/** The row that remembers the answer; stands or falls with the change. */
export type MakeIdempotencyRecord = (keyId: string, version: number) => IdempotencyRecord;

/** @throws PantheonError `invalid_request` for a key that is not 1 to 255 printable characters. */
export function idempotentRequest(request: {
  readonly tenantId: string;
  readonly by: Caller;
  readonly idempotencyKey: string;
  readonly operation: string;
  readonly keyId: string | null;
  readonly input: unknown;
}): RequestIdentity {
  const { tenantId, by, idempotencyKey, operation, keyId, input } = request;
  if (!IDEMPOTENCY_KEY_PATTERN.test(idempotencyKey)) {
    throw new PantheonError('invalid_request', {
      field: 'Idempotency-Key',
      detail: '1 to 255 printable ASCII characters.',
    });
  }
  return {
    tenantId,
    caller: by.authority.kind === 'key' ? by.authority.keyId : 'process',
    idempotencyKey: sha256(idempotencyKey),
    // The Idempotency-Key is in it and not in the row, so a copy of the database confirms no guess about the input.
    requestHash: sha256(canonicalJson({ idempotencyKey, operation, keyId, input: input ?? null })),
    keyId,
  };
}

export class IdempotencyService {
  readonly #rows: IdempotencyRows;
  readonly #changes: KeyChanges;
  readonly #usage: UsageReader;
  readonly #guard: CallerGuard;
  readonly #clock: Clock;
  readonly #keyPrefix: string;

  constructor(deps: {
    readonly rows: IdempotencyRows;
    readonly changes: KeyChanges;
    readonly usage: UsageReader;
    readonly guard: CallerGuard;
    readonly clock: Clock;
    readonly keyPrefix: string;
  }) {
    this.#rows = deps.rows;
    this.#changes = deps.changes;
    this.#usage = deps.usage;
    this.#guard = deps.guard;
    this.#clock = deps.clock;
    this.#keyPrefix = deps.keyPrefix;
  }

  /** Carries it out the first time; afterwards answers it anew. `again` adds to the answer what the first one had. */
  async run<T extends { readonly key: string; readonly apiKey: APIKey }>(
    request: RequestIdentity,
    by: Caller,
    execute: (makeRecord: MakeIdempotencyRecord | null) => Promise<T>,
    again: (answer: { readonly key: string; readonly apiKey: APIKey; readonly record: KeyRecord }) => T = (answer) =>
      answer as unknown as T,
  ): Promise<T> {
    const answered = await this.#find(request);
    if (answered !== null) return again(await this.#replace(request, answered, by));
    const now = this.#clock.now();
    try {
      return await execute((keyId, version) => companionRow(request, keyId, version, now));
    } catch (error) {
      // The same request at the same moment, on this node or another: the other one has carried it out, and so this one
      // met a conflict of any kind (a rotation, for one, is then told that a rotation is in progress, or that the key is
      // not what If-Match names any more).
      const isConflict = error instanceof PantheonError && [409, 412].includes(CODES[error.code].status ?? 0);
      const meanwhile = isConflict ? await this.#find(request) : null;
      if (meanwhile === null) throw error;
      return again(await this.#replace(request, meanwhile, by));
    }
  }

  async #find(request: RequestIdentity): Promise<AnsweredRequest | null> {
    const answered = await this.#rows.find(request, this.#clock.now() - ANSWER_KEPT_MS);
    if (answered !== null && answered.requestHash !== request.requestHash)
      throw new PantheonError('idempotency_mismatch');
    return answered;
  }

  async #replace(
    request: RequestIdentity,
    answered: AnsweredRequest,
    by: Caller,
  ): Promise<{ key: string; apiKey: APIKey; record: KeyRecord }> {
    const { keyId, version, tenantId } = answered;
    let key = '';
    const record = await this.#changes.change(tenantId, keyId, async (current) => {
      const { caller, preconditions } = await this.#guard.confirm(by);
      assertSameRequest(request, answered, caller, current.record);
      await this.#assertUnclaimed(answered, current);
      const { tenant } = current;
      assertTenantActive(tenant);
      const { environment } = current.record;
      const generated = generateKey({ keyPrefix: this.#keyPrefix, environment, id: keyId });
      key = generated.key;
      const change = replaceSecret(current.record, by.auditContext, this.#clock.now());
      const others = current.secrets.filter((secret) => secret.version !== version);
      const secrets = [versionSecret(version, generated), ...others];
      return { change, secrets, preconditions: [...preconditions, tenantAsRead(tenant)] };
    });
    return { key, apiKey: toApiKey(record, [], { keyPrefix: this.#keyPrefix, now: this.#clock.now() }), record };
  }

  async #assertUnclaimed({ keyId, version, tenantId }: AnsweredRequest, { record }: ChangeableKey): Promise<void> {
    const isItsOwn = record.version === version && record.state.kind === 'active';
    if (!isItsOwn || (await this.#wasUsed(tenantId, keyId, version))) throw new PantheonError('already_claimed');
  }

  async #wasUsed(tenantId: string, keyId: string, version: number): Promise<boolean> {
    const usage = await this.#usage.ofKey(tenantId, keyId);
    return usage.some((one) => one.version === version && one.usageCount > 0);
  }
}

/**
 * The row that remembers an answer is no authority: the key must be one that this request can have made or changed, and
 * the caller must be entitled to hand out what it holds *now*. Nobody but the key itself is above that.
 */
function assertSameRequest(
  { keyId }: RequestIdentity,
  answered: AnsweredRequest,
  by: ConfirmedCaller,
  record: KeyRecord,
): void {
  const { authority } = by;
  const callerId = authority.kind === 'key' ? authority.keyId : null;
  const isIts = keyId === null ? record.createdBy === callerId : record.id === keyId;
  if (!isIts) throw new PantheonError('already_claimed');
  if (record.id === callerId) {
    // Whoever rotated itself proved the version before the one that this made. Its answer was lost, so that is what it
    // has: neither the string of an even older version will do, nor a token.
    assertProvesCurrent(by, { id: record.id, version: answered.version - 1 });
    return;
  }
  assertMay(by, keyId === null ? 'keys.create' : 'keys.rotate', record.tenantId);
  assertMayHandOut(by, record);
}

function companionRow(request: RequestIdentity, keyId: string, version: number, now: number): IdempotencyRecord {
  return {
    table: 'idempotency',
    row: {
      tenant_id: request.tenantId,
      caller: request.caller,
      idempotency_key: request.idempotencyKey,
      request_hash: request.requestHash,
      key_id: keyId,
      version,
      created_at: now,
    },
  };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
