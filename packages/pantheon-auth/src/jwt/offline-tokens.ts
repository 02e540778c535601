/**
 * Computes until when a verifier that has only the public keys may accept tokens of an API key. A token was issued by
 * the policy of its time, so recent policies are read from the log.
 */
import type { OfflineQuestion, OfflineTokenExpiry } from '../commands/propagation.ts';
import { ACCESS_TOKEN_LIFETIME_MAX_SECONDS } from '../domain/claims.ts';
import { isReadable } from '../domain/event.ts';
import type { KeyRecord } from '../domain/key.ts';
import type { KeySettings } from '../domain/key-settings.ts';
import { settingsFromWire, settingsToWire } from '../domain/key-wire.ts';
import type { EventCodec } from '../events/event-codec.ts';
import { CLOCK_JUMP_MS, type Instant, MINUTE_MS, SECOND_MS } from '../foundation/clock.ts';
import type { ReadTurns } from '../foundation/read-turns.ts';
import { offlineLifetimeMaxSeconds } from './token-issuer.ts';

/**
 * The most changes of a key that are read. For a key with more changes within an hour the longest possible time is
 * returned.
 */
export const UPDATES_READ_MAX = 100;
/**
 * How far in the future a token may be dated: one second by the issuer itself, to be newer than a revocation, and the
 * difference of the clocks of two nodes that is not reported yet (I14).
 */
export const ISSUED_AHEAD_MAX_MS: number = SECOND_MS + 2 * CLOCK_JUMP_MS;
/** The longest lifetime of a token is an hour. An event is dated before its commit, which may have waited. */
const LOOKED_BACK_MS: number = ACCESS_TOKEN_LIFETIME_MAX_SECONDS * SECOND_MS + ISSUED_AHEAD_MAX_MS + MINUTE_MS;

/** All reads of a tenant for `settle` count as one caller. */
const SETTLING = 'settling';

type Policy = Pick<KeySettings, 'jwt' | 'expiresAt'>;

export class OfflineTokens implements OfflineTokenExpiry {
  readonly #events: EventCodec;
  readonly #readTurns: ReadTurns;

  constructor(deps: { readonly events: EventCodec; readonly readTurns: ReadTurns }) {
    this.#events = deps.events;
    this.#readTurns = deps.readTurns;
  }

  /**
   * The latest `exp` of these tokens, never too early and possibly seconds too late. Null: nobody can verify them
   * offline. Without a record: for any key. Never throws: if the log cannot be read, the longest possible time is
   * returned.
   */
  async endOf(record: KeyRecord | null, question: OfflineQuestion): Promise<Instant | null> {
    const { issuedUntil, acceptedUntil } = question;
    const policies = record === null ? null : await this.#policiesOf(record, issuedUntil - LOOKED_BACK_MS);
    const seconds = policies?.map(({ jwt }) => offlineLifetimeMaxSeconds(jwt)).filter((one) => one !== null) ?? [
      ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
    ];
    if (seconds.length === 0) return null;
    const expiresAt = Math.max(...(policies ?? [FOR_EVER]).map((one) => one.expiresAt ?? Number.POSITIVE_INFINITY));
    const issued = issuedUntil + ISSUED_AHEAD_MAX_MS + Math.max(...seconds) * SECOND_MS;
    return Math.min(Math.max(issued, acceptedUntil ?? 0), expiresAt);
  }

  /** The policies of the key since then, in any order; null when they cannot be read completely. */
  async #policiesOf(record: KeyRecord, since: Instant): Promise<readonly Policy[] | null> {
    const updates = {
      tenantId: record.tenantId,
      type: 'key.updated',
      subjectType: 'key',
      subjectId: record.id,
    } as const;
    try {
      const query = { ...updates, after: null, order: 'newest_first', limit: UPDATES_READ_MAX } as const;
      const reader = { group: record.tenantId, member: SETTLING };
      const { items: found, next } = await this.#readTurns.run(reader, undefined, () => this.#events.list(query));
      const lately = found.filter(({ at }) => at >= since);
      // Not all changes were read.
      if (next !== null && lately.length === found.length) return null;
      if (!lately.every(isReadable)) return null;
      const now = settingsToWire(record);
      const said = lately.flatMap(({ before, after }) => [before ?? {}, after ?? {}]);
      return [record, ...said.map((change) => settingsFromWire({ ...now, ...change }))];
    } catch {
      return null;
    }
  }
}

const FOR_EVER: Policy = { jwt: null, expiresAt: null };
