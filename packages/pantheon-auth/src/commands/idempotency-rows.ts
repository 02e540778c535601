/** The port through which answered requests are remembered, so that a repeated one is not carried out twice. */

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
  /** Null when unknown or older than `since`. */
  find(
    request: Pick<AnsweredRequest, 'tenantId' | 'caller' | 'idempotencyKey'>,
    since: number,
  ): Promise<AnsweredRequest | null>;
  /** Forgets what is older than `before`, at most `limit` rows. */
  prune(before: number, limit: number): Promise<number>;
}
