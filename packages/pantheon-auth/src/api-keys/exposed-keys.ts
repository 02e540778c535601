/**
 * Key strings that turned up where they are written down: in a URL, and so in logs, histories and referrers, or in a text
 * about something else. A fact for the log of the key's tenant. What follows from it (an alert, a revocation) is
 * somebody's decision.
 */
import { LRUCache } from 'lru-cache';
import { type AuditContext, type EventType, newEvent } from '../domain/event.ts';
import type { Caller } from '../domain/key-policy.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Ledger } from '../events/ledger.ts';
import { type Clock, HOUR_MS } from '../foundation/clock.ts';
import { findCredential } from '../foundation/credential-text.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { KeyValidator } from './key-validator.ts';

/** A client that sends its key in the URL does so each time: the log needs to hear it once in a while. */
export const REPORT_AGAIN_AFTER_MS: number = HOUR_MS;
/** Keys that were reported lately. Forgetting one only means another event. */
const REPORTED_KEYS_MAX = 10_000;

type ExposedEvent = Extract<EventType, `key.exposed_${string}`>;

export class ExposedKeys {
  readonly #validator: KeyValidator;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  /** By type of event and key id, to the monotonic time from which it is reported again. */
  readonly #reported = new LRUCache<string, number>({ max: REPORTED_KEYS_MAX });

  constructor(deps: {
    readonly validator: KeyValidator;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly clock: Clock;
    /** Told when a key stood in a text and the log could not be told: the text was refused all the same. */
    readonly onError: (error: unknown) => void;
  }) {
    this.#validator = deps.validator;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#clock = deps.clock;
    this.#onError = deps.onError;
  }

  /**
   * Refuses what is about to be written down when a credential stands in it, and logs `key.exposed_in_text` for each key.
   *
   * @throws PantheonError `credential_in_text`, naming the field and nothing of what stands in it.
   */
  async refuseIn(texts: object, by: Caller): Promise<void> {
    const found = findCredential(texts);
    if (found === null) return;
    try {
      for (const key of found.keys) await this.#log('key.exposed_in_text', key, by);
    } catch (error) {
      this.#onError(error);
    }
    throw new PantheonError('credential_in_text', { field: found.field });
  }

  /** Logs `key.exposed_in_url` if it is the string of a key, at most once an hour for each. */
  report(key: string, by: AuditContext): Promise<void> {
    return this.#log('key.exposed_in_url', key, { authority: { kind: 'process' }, auditContext: by });
  }

  async #log(type: ExposedEvent, key: string, { authority, auditContext }: Caller): Promise<void> {
    const exposed = await this.#validator.identify(key, auditContext.actor.address);
    if (exposed === null) return;
    const nowMs = this.#clock.monotonicMs();
    const mark = `${type} ${exposed.keyId}`;
    if (nowMs < (this.#reported.get(mark) ?? Number.NEGATIVE_INFINITY)) return;
    // Marked first, so that many at once are one event; taken back when it could not be written.
    this.#reported.set(mark, nowMs + REPORT_AGAIN_AFTER_MS);
    // Who wrote it is told in its own tenant only: for another one there is no such key.
    const isOfTenant = authority.kind === 'process' || authority.tenantId === exposed.tenantId;
    const actor = isOfTenant ? auditContext.actor : { ...auditContext.actor, keyId: null, userId: null };
    const { tenantId, keyId: subjectId } = exposed;
    const event = newEvent(
      type,
      { at: this.#clock.now(), tenantId, subjectId, before: null, after: null },
      // A reason may be the very text in which it stood.
      { actor, requestId: auditContext.requestId, reason: null },
    );
    try {
      await this.#ledger.commit({ changes: [], events: await this.#events.toRows([event]) });
    } catch (error) {
      this.#reported.delete(mark);
      throw error;
    }
  }
}
