/**
 * Tokens that were revoked one by one, by `jti` (never by the token string: what is malleable must not be the key of a
 * revocation). All that have not expired are in memory, so checking one costs no I/O. Tokens that die with their key,
 * version or "issued before" need no entry here.
 */

import { hash } from 'node:crypto';
import { ACCESS_TOKEN_LIFETIME_MAX_SECONDS, LEEWAY_SECONDS_MAX, TOKEN_ID_LENGTH_MAX } from '../domain/claims.ts';
import type { AuditEvent, Circumstances } from '../domain/event.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventLog } from '../events/event-log.ts';
import type { EventNotice, Ledger, Row } from '../events/ledger.ts';
import { type Clock, type Instant, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { newId } from '../foundation/ids.ts';
import type { TokenRevocationRows } from './signing-key-rows.ts';

/** About 100 MB. Who needs more revokes by key, which takes no entry at all. */
export const REVOKED_TOKENS_MAX = 500_000;
const ROWS_PER_READ = 1_000;

export interface RevokedToken {
  readonly tokenId: string;
  readonly tenantId: string;
  /** The key it was made from. A `jti` means something only together with it. */
  readonly keyId: string;
  readonly expiresAt: Instant;
}

export class TokenRevocations implements Follower {
  readonly #rows: TokenRevocationRows;
  readonly #ledger: Ledger;
  readonly #events: EventLog;
  readonly #clock: Clock;
  /** By id of the revocation, to when it may be forgotten. In order of arrival. */
  readonly #forgetAt = new Map<string, Instant>();

  constructor(deps: {
    readonly rows: TokenRevocationRows;
    readonly ledger: Ledger;
    readonly events: EventLog;
    readonly clock: Clock;
  }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#clock = deps.clock;
  }

  /** Loads what may still be presented. What is known stays meanwhile: a revocation must not lapse while it is read. */
  async start(): Promise<void> {
    this.#forgetExpired();
    const now = this.#clock.now();
    let after: { expiresAt: number; jti: string } | null = null;
    do {
      const rows: readonly Row[] = await this.#rows.unexpired(now, after, ROWS_PER_READ);
      for (const row of rows) this.#remember(row);
      const last = rows.at(-1);
      after =
        rows.length < ROWS_PER_READ || last === undefined
          ? null
          : { expiresAt: Number(last['expires_at']), jti: String(last['jti']) };
    } while (after !== null);
  }

  isRevoked(keyId: string, tokenId: string): boolean {
    return this.#forgetAt.size > 0 && this.#forgetAt.has(revocationId(keyId, tokenId));
  }

  /**
   * Revokes one token. Twice is success.
   *
   * @throws PantheonError `invalid_request`; `overloaded` when there are too many: revoke the key's tokens together then.
   */
  async revoke(token: RevokedToken, by: Circumstances): Promise<void> {
    assertPossible(token);
    const id = revocationId(token.keyId, token.tokenId);
    if (this.#forgetAt.has(id)) return;
    // Kept for as long as any token may live, whatever was said of this one: a mistake there must not leave it alive.
    const lifeSeconds = ACCESS_TOKEN_LIFETIME_MAX_SECONDS + LEEWAY_SECONDS_MAX;
    const expiresAt = this.#clock.now() + lifeSeconds * SECOND_MS;
    this.#forgetExpired();
    if (this.#forgetAt.size >= REVOKED_TOKENS_MAX)
      throw new PantheonError('overloaded', { detail: 'Revoke the tokens of the key together.' });
    const event: AuditEvent = {
      id: newId(),
      at: this.#clock.now(),
      tenantId: token.tenantId,
      type: 'token.revoked',
      subject: { type: 'token', id },
      before: null,
      after: { keyId: token.keyId, expiresAt: new Date(expiresAt).toISOString() },
      ...by,
    };
    const row = { jti: id, tenant_id: token.tenantId, key_id: token.keyId, expires_at: expiresAt, revision: 1 };
    try {
      await this.#ledger.commit({
        changes: [{ kind: 'insert', table: 'token_revocations', row }],
        events: await this.#events.toRows([event]),
      });
    } catch (error) {
      // Another node revoked it at the same moment.
      if (!(error instanceof PantheonError && error.code === 'conflict')) throw error;
    }
    this.#forgetAt.set(id, expiresAt);
  }

  async apply(notice: EventNotice): Promise<void> {
    if (notice.type !== 'token.revoked' || this.#forgetAt.has(notice.subjectId)) return;
    const row = await this.#rows.find(notice.subjectId);
    if (row !== null) this.#remember(row);
  }

  reset(): Promise<void> {
    return this.start();
  }

  #remember(row: Row): void {
    if (this.#forgetAt.size >= REVOKED_TOKENS_MAX) this.#forgetExpired();
    this.#forgetAt.set(String(row['jti']), Number(row['expires_at']));
  }

  #forgetExpired(): void {
    const now = this.#clock.now();
    for (const [id, at] of this.#forgetAt) if (at <= now) this.#forgetAt.delete(id);
  }
}

/** Bounds what an entry takes, and keeps out what no token can say. */
function assertPossible({ tokenId, expiresAt }: RevokedToken): void {
  if (tokenId.length === 0 || tokenId.length > TOKEN_ID_LENGTH_MAX) {
    const detail = `1 to ${TOKEN_ID_LENGTH_MAX} characters.`;
    throw new PantheonError('invalid_request', { field: 'tokenId', detail });
  }
  if (!Number.isFinite(expiresAt))
    throw new PantheonError('invalid_request', { field: 'expiresAt', detail: 'A time in milliseconds.' });
}

/**
 * A holder chooses the `jti` of its own tokens: one key must not be able to name the token of another, and what is
 * written into it does not belong into the log.
 */
function revocationId(keyId: string, tokenId: string): string {
  return `${keyId}.${hash('sha256', tokenId, 'base64url')}`;
}
