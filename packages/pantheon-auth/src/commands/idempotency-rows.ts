/** The port for idempotency records, so that a repeated request is not executed twice. */

export interface AnsweredRequest {
  readonly tenantId: string;
  /** The caller's key id, or `process`. */
  readonly caller: string;
  /** SHA-256 of the Idempotency-Key, hex. */
  readonly idempotencyKey: string;
  /** SHA-256 of the operation and its canonical body, hex. */
  readonly requestHash: string;
  readonly keyId: string;
  readonly version: number;
  readonly createdAt: number;
}

export interface IdempotencyRows {
  /** Null when there is none, or when it is older than `since`. */
  find(
    request: Pick<AnsweredRequest, 'tenantId' | 'caller' | 'idempotencyKey'>,
    since: number,
  ): Promise<AnsweredRequest | null>;
  /** Deletes records older than `before`, at most `limit`. */
  prune(before: number, limit: number): Promise<number>;
}
