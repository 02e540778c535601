/**
 * Individually revoked tokens, by `jti` (not by the token string, which has two valid forms with ES256). All that have
 * not expired are in memory, so checking one costs no I/O. Tokens that are invalid because of their key, version or
 * time of issue need no entry.
 */

import { hash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Conditional } from '../commands/run-command.ts';
import { ACCESS_TOKEN_LIFETIME_MAX_SECONDS, LEEWAY_SECONDS_MAX, TOKEN_ID_LENGTH_MAX } from '../domain/claims.ts';
import { type AuditContext, type EventOf, newEvent } from '../domain/event.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventNotice, Ledger, Precondition } from '../events/ledger.ts';
import { type Clock, type Instant, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { AsStored } from '../schema/as-stored.ts';
import type { TokenRevocationRow } from '../schema/token-revocation-row.ts';
import type { TokenRevocationRows } from './signing-key-rows.ts';

/** About 120 MB. Beyond that, revoke all tokens of a key together, which needs no entry. */
export const REVOKED_TOKENS_MAX = 500_000;
/** Half of the total, so that no tenant alone can prevent others from revoking. */
export const REVOKED_TOKENS_PER_TENANT_MAX: number = REVOKED_TOKENS_MAX / 2;
/** Reading so many takes a few milliseconds. */
const ROWS_PER_READ = 4_000;
/** Entries checked for expiry with each new one: a few microseconds. */
const LOOKED_AT_ONCE_MAX = 64;
/** When there is no room, all entries are checked in parts of so many, one or two milliseconds each. */
const LOOKED_AT_PER_TURN = 10_000;
const LOOKED_AT_ALL_EVERY_MS = 10_000;

export interface RevokedToken {
  readonly tokenId: string;
  readonly tenantId: string;
  /** The key that it was made from. A `jti` is unique only per key. */
  readonly keyId: string;
  readonly expiresAt: Instant;
}

/** A change to commit. */
export interface TokenRevocation extends Conditional {
  readonly row: TokenRevocationRow;
  readonly event: EventOf<'token.revoked'>;
}

interface Entry {
  readonly tenantId: string;
  readonly forgetAt: Instant;
}

export class TokenRevocations implements Follower {
  readonly #rows: TokenRevocationRows;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #clock: Clock;
  /** By id of the revocation, in insertion order. */
  readonly #entries = new Map<string, Entry>();
  /** The position of the search for expired entries. */
  #round: MapIterator<[string, Entry]> = this.#entries.entries();
  #lookedAtAllMs: number = Number.NEGATIVE_INFINITY;
  /** The number of entries per tenant. */
  readonly #counts = new Map<string, number>();

  constructor(deps: {
    readonly rows: TokenRevocationRows;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly clock: Clock;
  }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#clock = deps.clock;
  }

  /**
   * Loads revocations that have not expired. Existing entries are kept meanwhile, so that no revocation is missing
   * during the load.
   */
  async start(): Promise<void> {
    const now = this.#clock.now();
    let after: { expiresAt: number | bigint; jti: string } | null = null;
    do {
      const rows: readonly AsStored<TokenRevocationRow>[] = await this.#rows.unexpired(now, after, ROWS_PER_READ);
      this.#forgetExpired(LOOKED_AT_PER_TURN);
      for (const row of rows) this.#remember(row);
      // There may be half a million rows, and SQLite reads would block the event loop until the last.
      await nextTurn();
      const last = rows.at(-1);
      after = rows.length < ROWS_PER_READ || last === undefined ? null : { expiresAt: last.expires_at, jti: last.jti };
    } while (after !== null);
  }

  isRevoked(keyId: string, tokenId: string): boolean {
    return this.#entries.size > 0 && this.#entries.has(revocationId(keyId, tokenId));
  }

  /** The precondition that this token is not individually revoked. */
  absenceOf(keyId: string, tokenId: string): Precondition {
    return { kind: 'absent', table: 'token_revocations', where: { jti: revocationId(keyId, tokenId) } };
  }

  /** Whether it is revoked; also reads the database, because another node may have revoked it just now. */
  async find({ keyId, tokenId }: Pick<RevokedToken, 'keyId' | 'tokenId'>): Promise<boolean> {
    const id = revocationId(keyId, tokenId);
    if (this.#entries.has(id)) return true;
    const row = await this.#rows.find(id);
    if (row !== null) this.#remember(row);
    return row !== null;
  }

  /**
   * The change that revokes one token.
   *
   * @throws PantheonError `overloaded` when there are too many, of this tenant or in total: revoke all tokens of the
   * key together then.
   */
  async decide(token: RevokedToken, by: AuditContext): Promise<TokenRevocation> {
    const id = revocationId(token.keyId, token.tokenId);
    // Kept for at least the longest lifetime of a token, so that a wrong `expiresAt` from the caller does not let it
    // become valid again.
    const lifeSeconds = ACCESS_TOKEN_LIFETIME_MAX_SECONDS + LEEWAY_SECONDS_MAX;
    const expiresAt = this.#clock.now() + lifeSeconds * SECOND_MS;
    this.#forgetExpired();
    await this.#assertRoom(token.tenantId);
    const after = { keyId: token.keyId, expiresAt: new Date(expiresAt).toISOString() };
    const where = { at: this.#clock.now(), tenantId: token.tenantId, subjectId: id };
    const event = newEvent('token.revoked', { ...where, before: null, after }, by);
    const row = { jti: id, tenant_id: token.tenantId, key_id: token.keyId, expires_at: expiresAt, revision: 1 };
    return { row, event };
  }

  /** @throws PantheonError `conflict`. */
  async commit({ row, event, preconditions = [] }: TokenRevocation): Promise<void> {
    await this.#ledger.commit({
      changes: [{ kind: 'insert', table: 'token_revocations', row }],
      preconditions,
      events: await this.#events.toRows([event]),
    });
    this.#remember(row);
  }

  async #assertRoom(tenantId: string): Promise<void> {
    const isTenantFull = (): boolean => (this.#counts.get(tenantId) ?? 0) >= REVOKED_TOKENS_PER_TENANT_MAX;
    const hasRoom = (): boolean => !isTenantFull() && this.#entries.size < REVOKED_TOKENS_MAX;
    if (hasRoom()) return;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#lookedAtAllMs >= LOOKED_AT_ALL_EVERY_MS) {
      this.#lookedAtAllMs = nowMs;
      for (let left = this.#entries.size; left > 0; left -= LOOKED_AT_PER_TURN) {
        this.#forgetExpired(LOOKED_AT_PER_TURN);
        await nextTurn();
      }
      if (hasRoom()) return;
    }
    const detail = `${isTenantFull() ? 'The tenant has' : 'There are'} too many revoked tokens. Revoke all tokens of the key together.`;
    throw new PantheonError('overloaded', { detail });
  }

  async apply(notice: EventNotice): Promise<void> {
    // The recorded time went back: entries that had expired by the wrong clock were dropped here and must be loaded
    // again.
    if (notice.type === 'store.clock_accepted') return this.start();
    if (notice.type !== 'token.revoked' || this.#entries.has(notice.subjectId)) return;
    const row = await this.#rows.find(notice.subjectId);
    if (row === null) return;
    this.#forgetExpired();
    this.#remember(row);
  }

  reset(): Promise<void> {
    return this.start();
  }

  #remember(row: AsStored<TokenRevocationRow>): void {
    const { jti: id, tenant_id: tenantId, expires_at: expiresAt } = row;
    if (this.#entries.has(id)) return;
    // With a damaged expiry the token stays revoked.
    const forgetAt = typeof expiresAt === 'number' ? expiresAt : Number.POSITIVE_INFINITY;
    this.#entries.set(id, { tenantId, forgetAt });
    this.#counts.set(tenantId, (this.#counts.get(tenantId) ?? 0) + 1);
  }

  /**
   * Checks the next entries in turn. More are checked than added, so that few expired entries remain and no call has to
   * check all of them.
   */
  #forgetExpired(atMost: number = LOOKED_AT_ONCE_MAX): void {
    const now = this.#clock.now();
    for (let looked = 0; looked < atMost; looked += 1) {
      const next = this.#round.next();
      if (next.done === true) {
        this.#round = this.#entries.entries();
        continue;
      }
      const [id, { tenantId, forgetAt }] = next.value;
      if (forgetAt > now) continue;
      this.#entries.delete(id);
      const left = (this.#counts.get(tenantId) ?? 0) - 1;
      if (left > 0) this.#counts.set(tenantId, left);
      else this.#counts.delete(tenantId);
    }
  }
}

/** Checks the size and form of an entry. @throws PantheonError `invalid_request`. */
export function assertRevocable({ tokenId, expiresAt }: RevokedToken): void {
  if (typeof tokenId !== 'string' || tokenId.length === 0 || tokenId.length > TOKEN_ID_LENGTH_MAX) {
    const detail = `1 to ${TOKEN_ID_LENGTH_MAX} characters.`;
    throw new PantheonError('invalid_request', { field: 'tokenId', detail });
  }
  if (!Number.isFinite(expiresAt))
    throw new PantheonError('invalid_request', { field: 'expiresAt', detail: 'Must be a time in milliseconds.' });
}

/**
 * The holder chooses the `jti` of key-signed tokens, so it is combined with the key id and hashed: one key must not be
 * able to name a token of another, and its text must not get into the log.
 */
function revocationId(keyId: string, tokenId: string): string {
  return `${keyId}.${hash('sha256', tokenId, 'base64url')}`;
}
