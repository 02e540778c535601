/**
 * Key strings that turned up in a URL, and so in logs, histories and referrers: a fact for the log of the key's tenant.
 * What follows from it (an alert, a revocation) is somebody's decision.
 */
import { LRUCache } from 'lru-cache';
import type { AuditEvent, Circumstances } from '../domain/event.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Ledger } from '../events/ledger.ts';
import { type Clock, HOUR_MS } from '../foundation/clock.ts';
import { newId } from '../foundation/ids.ts';
import type { KeyValidator } from './key-validator.ts';

/** A client that sends its key in the URL does so each time: the log needs to hear it once in a while. */
export const REPORT_AGAIN_AFTER_MS: number = HOUR_MS;
/** Keys that were reported lately. Forgetting one only means another event. */
const REPORTED_KEYS_MAX = 10_000;

export class ExposedKeys {
  readonly #validator: KeyValidator;
  readonly #ledger: Ledger;
  readonly #events: EventLog;
  readonly #clock: Clock;
  /** By key id, to the monotonic time from which it is reported again. */
  readonly #reported = new LRUCache<string, number>({ max: REPORTED_KEYS_MAX });

  constructor(deps: {
    readonly validator: KeyValidator;
    readonly ledger: Ledger;
    readonly events: EventLog;
    readonly clock: Clock;
  }) {
    this.#validator = deps.validator;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#clock = deps.clock;
  }

  /** Logs `key.exposed_in_url` if it is the string of a key, at most once an hour for each. */
  async report(key: string, by: Circumstances): Promise<void> {
    const exposed = await this.#validator.identify(key, by.actor.address);
    const nowMs = this.#clock.monotonicMs();
    if (exposed === null || nowMs < (this.#reported.get(exposed.keyId) ?? Number.NEGATIVE_INFINITY)) return;
    // Marked first, so that many at once are one event; taken back when it could not be written.
    this.#reported.set(exposed.keyId, nowMs + REPORT_AGAIN_AFTER_MS);
    const event: AuditEvent = {
      id: newId(),
      at: this.#clock.now(),
      tenantId: exposed.tenantId,
      type: 'key.exposed_in_url',
      subject: { type: 'key', id: exposed.keyId },
      before: null,
      after: null,
      ...by,
    };
    try {
      await this.#ledger.commit({ changes: [], events: await this.#events.toRows([event]) });
    } catch (error) {
      this.#reported.delete(exposed.keyId);
      throw error;
    }
  }
}
