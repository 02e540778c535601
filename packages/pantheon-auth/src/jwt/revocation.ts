/**
 * Tokens that were revoked one by one, by `jti` (never by the token string: what is malleable must not be the key of a
 * revocation). All that have not expired are in memory, so checking one costs no I/O. Tokens that die with their key,
 * version or "issued before" need no entry here.
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
import type { TokenRevocationRow } from '../schema/token-revocation-row.ts';
import type { TokenRevocationRows } from './signing-key-rows.ts';

/** About 120 MB. Who needs more revokes by key, which takes no entry at all. */
export const REVOKED_TOKENS_MAX = 500_000;
/** No tenant alone keeps the others from revoking: there is always room for as much again. */
export const REVOKED_TOKENS_PER_TENANT_MAX: number = REVOKED_TOKENS_MAX / 2;
/** A few milliseconds of work for this thread. */
const ROWS_PER_READ = 4_000;
/** Entries looked at for expiry with each that comes in: a few microseconds. */
const LOOKED_AT_ONCE_MAX = 64;
/** When there is no room, all are looked at, in parts of a millisecond or two, and not again within this. */
const LOOKED_AT_PER_TURN = 10_000;
const LOOKED_AT_ALL_EVERY_MS = 10_000;

export interface RevokedToken {
  readonly tokenId: string;
  readonly tenantId: string;
  /** The key it was made from. A `jti` means something only together with it. */
  readonly keyId: string;
  readonly expiresAt: Instant;
}

/** What is committed. */
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
  /** By id of the revocation. In order of arrival. */
  readonly #entries = new Map<string, Entry>();
  /** Where the look for those that have expired has got to. */
  #round: MapIterator<[string, Entry]> = this.#entries.entries();
  #lookedAtAllMs: number = Number.NEGATIVE_INFINITY;
  /** How many of them each tenant has. */
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

  /** Loads what may still be presented. What is known stays meanwhile: a revocation must not lapse while it is read. */
  async start(): Promise<void> {
    const now = this.#clock.now();
    let after: { expiresAt: number; jti: string } | null = null;
    do {
      const rows: readonly TokenRevocationRow[] = await this.#rows.unexpired(now, after, ROWS_PER_READ);
      this.#forgetExpired(LOOKED_AT_PER_TURN);
      for (const row of rows) this.#remember(row);
      // A store may hold half a million, and on SQLite nothing else would run before the last of them.
      await nextTurn();
      const last = rows.at(-1);
      after = rows.length < ROWS_PER_READ || last === undefined ? null : { expiresAt: last.expires_at, jti: last.jti };
    } while (after !== null);
  }

  isRevoked(keyId: string, tokenId: string): boolean {
    return this.#entries.size > 0 && this.#entries.has(revocationId(keyId, tokenId));
  }

  /** That this token was not revoked alone, as a precondition of a commit. */
  absenceOf(keyId: string, tokenId: string): Precondition {
    return { kind: 'absent', table: 'token_revocations', where: { jti: revocationId(keyId, tokenId) } };
  }

  /** Whether it was revoked, here or on another node that this one has not heard of. */
  async find({ keyId, tokenId }: Pick<RevokedToken, 'keyId' | 'tokenId'>): Promise<boolean> {
    const id = revocationId(keyId, tokenId);
    if (this.#entries.has(id)) return true;
    const row = await this.#rows.find(id);
    if (row !== null) this.#remember(row);
    return row !== null;
  }

  /**
   * What revokes one token.
   *
   * @throws PantheonError `overloaded` when there are too many, of this tenant or of all: revoke the key's tokens together
   * then.
   */
  async decide(token: RevokedToken, by: AuditContext): Promise<TokenRevocation> {
    const id = revocationId(token.keyId, token.tokenId);
    // Kept for as long as any token may live, whatever was said of this one: a mistake there must not leave it alive.
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
    const detail = `${isTenantFull() ? 'The tenant has' : 'There are'} too many. Revoke the tokens of the key together.`;
    throw new PantheonError('overloaded', { detail });
  }

  async apply(notice: EventNotice): Promise<void> {
    // Time goes back: what had expired by the wrong clock, and was forgotten here, is stored still.
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

  #remember(row: TokenRevocationRow): void {
    const { jti: id, tenant_id: tenantId, expires_at: forgetAt } = row;
    if (this.#entries.has(id)) return;
    this.#entries.set(id, { tenantId, forgetAt });
    this.#counts.set(tenantId, (this.#counts.get(tenantId) ?? 0) + 1);
  }

  /**
   * Looks at the next few, round after round: with each that comes in more are looked at than come, so those that say
   * nothing any more are few, and no call waits for a look at all of them.
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

/** Bounds what an entry takes, and keeps out what no token can say. @throws PantheonError `invalid_request`. */
export function assertRevocable({ tokenId, expiresAt }: RevokedToken): void {
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
