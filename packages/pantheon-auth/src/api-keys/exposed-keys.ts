/**
 * Records key strings that were sent in a URL, which many systems log, or in a text field. The event is written to the
 * log of the key's tenant. Nothing else happens to the key.
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

/** A client that sends its key in the URL does so with every request, so the event is repeated only after this time. */
export const REPORT_AGAIN_AFTER_MS: number = HOUR_MS;
/** The most recently reported keys that are remembered. An evicted key is only reported once more. */
const REPORTED_KEYS_MAX = 10_000;

type ExposedEvent = Extract<EventType, `key.exposed_${string}`>;

export class ExposedKeys {
  readonly #validator: KeyValidator;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  /** From event type and key id to the monotonic time from which it is reported again. */
  readonly #reported = new LRUCache<string, number>({ max: REPORTED_KEYS_MAX });

  constructor(deps: {
    readonly validator: KeyValidator;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly clock: Clock;
    /** Called when the event for a key in a text could not be written. The text is refused anyway. */
    readonly onError: (error: unknown) => void;
  }) {
    this.#validator = deps.validator;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#clock = deps.clock;
    this.#onError = deps.onError;
  }

  /**
   * Refuses texts that contain a credential, and writes `key.exposed_in_text` for each key found.
   *
   * @throws PantheonError `credential_in_text`, naming the field without repeating its content.
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

  /** Writes `key.exposed_in_url` if the text is a key string of this database, at most once an hour per key. */
  report(key: string, by: AuditContext): Promise<void> {
    return this.#log('key.exposed_in_url', key, { authority: { kind: 'process' }, auditContext: by });
  }

  async #log(type: ExposedEvent, key: string, { authority, auditContext }: Caller): Promise<void> {
    const exposed = await this.#validator.identify(key, auditContext.actor.address);
    if (exposed === null) return;
    const nowMs = this.#clock.monotonicMs();
    const mark = `${type} ${exposed.keyId}`;
    if (nowMs < (this.#reported.get(mark) ?? Number.NEGATIVE_INFINITY)) return;
    // Marked before writing, so that simultaneous requests write one event. Unmarked when writing fails.
    this.#reported.set(mark, nowMs + REPORT_AGAIN_AFTER_MS);
    // The actor is recorded only if it belongs to the same tenant: for other tenants the key does not exist.
    const isOfTenant = authority.kind === 'process' || authority.tenantId === exposed.tenantId;
    const actor = isOfTenant ? auditContext.actor : { ...auditContext.actor, keyId: null, userId: null };
    const { tenantId, keyId: subjectId } = exposed;
    const event = newEvent(
      type,
      { at: this.#clock.now(), tenantId, subjectId, before: null, after: null },
      // Without the reason of the request, which may be the text that contains the key.
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
