/** Executes each request with an `Idempotency-Key` once. The callers decide what a repeated request is answered. */
import { createHash } from 'node:crypto';
import type { Caller } from '../domain/key-policy.ts';
import { readerOf } from '../domain/reader.ts';
import type { IdempotencyRecord } from '../events/ledger.ts';
import { type Clock, DAY_MS } from '../foundation/clock.ts';
import { CODES } from '../foundation/codes.ts';
import { canonicalJson } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';
import type { CommandReads } from './command-reads.ts';
import type { AnsweredRequest, IdempotencyRows } from './idempotency-rows.ts';

/** How long a record is kept: longer than clients retry. */
export const ANSWER_KEPT_MS: number = DAY_MS;
const IDEMPOTENCY_KEY_PATTERN = /^[\x21-\x7e]{1,255}$/;

export interface RequestIdentity
  extends Pick<AnsweredRequest, 'tenantId' | 'caller' | 'idempotencyKey' | 'requestHash'> {
  /** The id of the key that it changes; null: it creates one. */
  readonly keyId: string | null;
  /** The queue position of the read. */
  readonly reader: TurnKey;
}
/** Makes the idempotency record, which is committed in the same transaction as the change. */
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
      detail: 'Must be 1 to 255 printable ASCII characters.',
    });
  }
  return {
    tenantId,
    caller: by.authority.kind === 'key' ? by.authority.keyId : 'process',
    idempotencyKey: sha256(idempotencyKey),
    // The hash includes the Idempotency-Key, which is not stored, so that a copy of the database confirms no guess
    // about the input.
    requestHash: sha256(canonicalJson({ idempotencyKey, operation, keyId, input: input ?? null })),
    keyId,
    reader: readerOf(by, tenantId),
  };
}

export class IdempotencyService {
  readonly #rows: IdempotencyRows;
  readonly #reads: CommandReads;
  readonly #clock: Clock;

  constructor(deps: { readonly rows: IdempotencyRows; readonly reads: CommandReads; readonly clock: Clock }) {
    this.#rows = deps.rows;
    this.#reads = deps.reads;
    this.#clock = deps.clock;
  }

  /** Executes the first request together with its record; calls `again` for a repeated one. */
  async run<T>(
    request: RequestIdentity,
    {
      execute,
      again,
    }: {
      readonly execute: (makeRecord: MakeIdempotencyRecord) => Promise<T>;
      readonly again: (answered: AnsweredRequest) => Promise<T>;
    },
  ): Promise<T> {
    const answered = await this.#find(request);
    if (answered !== null) return again(answered);
    const now = this.#clock.now();
    try {
      return await execute((keyId, version) => recordOf(request, keyId, version, now));
    } catch (error) {
      // The same request may have been executed at the same time, on this node or another. This one then fails with
      // some conflict: a rotation, for example, with `rotation_in_progress` or `precondition_failed`.
      const isConflict = error instanceof PantheonError && [409, 412].includes(CODES[error.code].status ?? 0);
      const meanwhile = isConflict ? await this.#find(request) : null;
      if (meanwhile === null) throw error;
      return again(meanwhile);
    }
  }

  async #find(request: RequestIdentity): Promise<AnsweredRequest | null> {
    const since = this.#clock.now() - ANSWER_KEPT_MS;
    const answered = await this.#reads.run('ordinary', request.reader, () => this.#rows.find(request, since));
    if (answered !== null && answered.requestHash !== request.requestHash)
      throw new PantheonError('idempotency_mismatch');
    return answered;
  }
}

function recordOf(request: RequestIdentity, keyId: string, version: number, now: number): IdempotencyRecord {
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
