/**
 * Records in the log the tokens that one key had issued for another. Without that, nobody could find the tokens that a
 * stolen administrator's key obtained. Tokens issued by the process itself, or in exchange for a key string, are not
 * recorded.
 */
import { newEvent } from '../domain/event.ts';
import type { KeyRecord } from '../domain/key.ts';
import type { Caller } from '../domain/key-policy.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Ledger, Precondition } from '../events/ledger.ts';
import type { Clock } from '../foundation/clock.ts';
import type { IssuedToken } from './token-issuer.ts';

/** An issued token, and the preconditions of its record in the log. */
export interface TokenIssue {
  readonly token: IssuedToken;
  /** The key that it was issued for. */
  readonly record: KeyRecord;
  readonly preconditions?: readonly Precondition[];
}

export class TokenIssues {
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #clock: Clock;

  constructor(deps: { readonly ledger: Ledger; readonly events: EventCodec; readonly clock: Clock }) {
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#clock = deps.clock;
  }

  /** @throws PantheonError `conflict` when a precondition no longer holds. */
  async commit({ token, record, preconditions = [] }: TokenIssue, by: Caller): Promise<void> {
    if (by.authority.kind === 'process') return;
    const { id: subjectId, tenantId, version } = record;
    const { tokenId, expiresAt } = token;
    const after = { tokenId, version, expiresAt: new Date(expiresAt).toISOString() };
    const where = { at: this.#clock.now(), tenantId, subjectId, before: null };
    const event = newEvent('key.token_issued', { ...where, after }, by.auditContext);
    await this.#ledger.commit({ changes: [], preconditions, events: await this.#events.toRows([event]) });
  }
}
