/**
 * Requests that were answered, so that a repeated one is not carried out twice. The secret in the first answer is gone
 * (I1), so a repeated request *replaces* it, as long as nobody has used it; after that it is refused.
 */
import { createHash } from 'node:crypto';
import { replaceSecret } from '../domain/key.ts';
import type { Caller } from '../domain/key-policy.ts';
import type { CompanionRow } from '../events/ledger.ts';
import { type Clock, DAY_MS } from '../foundation/clock.ts';
import { canonicalJson } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { type APIKey, toApiKey } from './api-key.ts';
import type { AnsweredRequest, IdempotencyRows } from './idempotency-rows.ts';
import { generateKey } from './key-generator.ts';
import type { KeyStorage, StoredKey } from './key-storage.ts';
import type { UsageReader } from './usage-reader.ts';
import type { VerificationCache } from './verification-cache.ts';
import { versionSecret } from './version-secret.ts';

/** How long an answer is remembered: longer than any client retries. */
export const ANSWER_KEPT_MS: number = DAY_MS;
const IDEMPOTENCY_KEY_PATTERN = /^[\x21-\x7e]{1,255}$/;
const PRUNE_ROWS_MAX = 100;

export type RequestIdentity = Pick<AnsweredRequest, 'tenantId' | 'caller' | 'idempotencyKey' | 'requestHash'>;
/** The row that remembers the answer; stands or falls with the change. */
export type Companion = (keyId: string, version: number) => CompanionRow;

/** @throws PantheonError `invalid_request` for a key that is not 1 to 255 printable characters. */
export function answeredRequest(request: {
  readonly tenantId: string;
  readonly by: Caller;
  readonly idempotencyKey: string;
  readonly operation: string;
  readonly input: unknown;
}): RequestIdentity {
  const { tenantId, by, idempotencyKey, operation, input } = request;
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
    requestHash: sha256(canonicalJson({ operation, input: input ?? null })),
  };
}

export class AnsweredRequests {
  readonly #rows: IdempotencyRows;
  readonly #storage: KeyStorage;
  readonly #usage: UsageReader;
  readonly #cache: VerificationCache;
  readonly #clock: Clock;
  readonly #brand: string;

  constructor(deps: {
    readonly rows: IdempotencyRows;
    readonly storage: KeyStorage;
    readonly usage: UsageReader;
    readonly cache: VerificationCache;
    readonly clock: Clock;
    readonly brand: string;
  }) {
    this.#rows = deps.rows;
    this.#storage = deps.storage;
    this.#usage = deps.usage;
    this.#cache = deps.cache;
    this.#clock = deps.clock;
    this.#brand = deps.brand;
  }

  /** Carries it out the first time; afterwards answers it anew. `again` adds to the answer what the first one had. */
  async once<T extends { readonly key: string; readonly apiKey: APIKey }>(
    request: RequestIdentity,
    by: Caller,
    carryOut: (companion: Companion | null) => Promise<T>,
    again: (answer: { readonly key: string; readonly apiKey: APIKey; readonly stored: StoredKey }) => T = (answer) =>
      answer as unknown as T,
  ): Promise<T> {
    const answered = await this.#find(request);
    if (answered !== null) return again(await this.#replace(answered, by));
    const now = this.#clock.now();
    await this.#rows.prune(now - ANSWER_KEPT_MS, PRUNE_ROWS_MAX);
    try {
      return await carryOut((keyId, version) => companionRow(request, keyId, version, now));
    } catch (error) {
      // The same request at the same moment, on this node or another: the other one has carried it out.
      const meanwhile = error instanceof PantheonError && error.code === 'conflict' ? await this.#find(request) : null;
      if (meanwhile === null) throw error;
      return again(await this.#replace(meanwhile, by));
    }
  }

  async #find(request: RequestIdentity): Promise<AnsweredRequest | null> {
    const answered = await this.#rows.find(request, this.#clock.now() - ANSWER_KEPT_MS);
    if (answered !== null && answered.requestHash !== request.requestHash)
      throw new PantheonError('idempotency_mismatch');
    return answered;
  }

  async #replace(answered: AnsweredRequest, by: Caller): Promise<{ key: string; apiKey: APIKey; stored: StoredKey }> {
    const { keyId, version, tenantId } = answered;
    const stored = await this.#storage.find(keyId);
    const unused = stored !== null && stored.record.version === version && stored.record.state.kind !== 'revoked';
    if (!unused || (await this.#wasUsed(tenantId, keyId, version))) throw new PantheonError('already_claimed');
    const { record } = stored;
    const generated = generateKey({ brand: this.#brand, environment: record.environment, id: keyId });
    const change = replaceSecret(record, by.circumstances, this.#clock.now());
    const others = stored.secrets.filter((secret) => secret.version !== version);
    try {
      await this.#storage.commit([{ change, secrets: [versionSecret(version, generated), ...others] }]);
    } finally {
      this.#cache.forget(keyId);
    }
    const view = { brand: this.#brand, now: this.#clock.now() };
    return {
      key: generated.key,
      apiKey: toApiKey(change.record, [], view),
      stored: { ...stored, record: change.record },
    };
  }

  async #wasUsed(tenantId: string, keyId: string, version: number): Promise<boolean> {
    const usage = (await this.#usage.ofKeys(tenantId, [keyId])).get(keyId) ?? [];
    return usage.some((one) => one.version === version && one.usageCount > 0);
  }
}

function companionRow(request: RequestIdentity, keyId: string, version: number, now: number): CompanionRow {
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
