/**
 * Passes the events of the log to each consumer: at least once, in order, a bounded number at a time. A consumer is a
 * job (`jobs/`): one node at a time runs it, and a failed run is repeated with increasing waits, from the cursor on.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { EVENTS_PAGE_MAX, type EventCodec } from '../events/event-codec.ts';
import type { LogReader } from '../events/ledger.ts';
import { type Clock, MINUTE_MS, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { JobRun } from '../jobs/job.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { ConsumedEvent, LogConsumer, LogCursor, LogCursorRows } from './log-consumer.ts';

/** How often new events are checked for. */
const EVERY_MS: number = SECOND_MS;
/**
 * After this time no further batch begins, so that a run with many events ends successfully and updates its metrics.
 */
const BEGIN_BATCHES_MS = 20_000;
/** Leaves several minutes for the last batch. */
const RUN_MS_MAX: number = 5 * MINUTE_MS;

export interface LogConsumersDeps {
  readonly jobs: JobRunner;
  readonly cursors: LogCursorRows;
  readonly log: Pick<LogReader, 'head' | 'noticesFrom'>;
  readonly events: Pick<EventCodec, 'list'>;
  readonly clock: Clock;
}

export class LogConsumers {
  readonly #deps: LogConsumersDeps;

  constructor(deps: LogConsumersDeps) {
    this.#deps = deps;
  }

  /** Registers a consumer. Every node must register the same consumers. */
  register(consumer: LogConsumer): void {
    this.#deps.jobs.add({
      name: consumer.name,
      everyMs: EVERY_MS,
      runMsMax: RUN_MS_MAX,
      isNeeded: () => this.#isBehind(consumer.name),
      run: (run) => this.#run(consumer, run),
    });
  }

  /** Also true when the log is shorter than the cursor, or a different one; the run then reports it. */
  async #isBehind(name: string): Promise<boolean> {
    const { cursors, log } = this.#deps;
    const [cursor, head] = await Promise.all([cursors.find(name), log.head()]);
    return cursor === null || cursor.seq !== head.seq || cursor.eventId !== head.eventId;
  }

  async #run(consumer: LogConsumer, run: JobRun): Promise<void> {
    const { cursors, clock } = this.#deps;
    const startedMs = clock.monotonicMs();
    let cursor = (await cursors.find(consumer.name)) ?? (await this.#begin(consumer, run));
    await this.#assertSameLog(consumer.name, cursor);
    while (!run.isEnding() && clock.monotonicMs() - startedMs < BEGIN_BATCHES_MS) {
      const events = await this.#eventsAfter(consumer.name, cursor, run.signal);
      const last = events.at(-1);
      if (last === undefined) return;
      await consumer.consume(events, { signal: run.signal, lease: run.lease });
      const next = { seq: last.seq, eventId: last.id };
      await cursors.advance(consumer.name, cursor, next, run.lease);
      cursor = next;
      await nextTurn();
    }
  }

  /** Creates the cursor on the first run. */
  async #begin({ name, startsAt }: LogConsumer, { lease }: JobRun): Promise<LogCursor> {
    const { cursors, log } = this.#deps;
    const { seq, eventId } = startsAt === 'head' ? await log.head() : START;
    await cursors.insert(name, { seq, eventId }, lease);
    return { seq, eventId };
  }

  /** Checks that the event at the cursor has the id of the consumed one. Ids are random, so no other event has it. */
  async #assertSameLog(name: string, { seq, eventId }: LogCursor): Promise<void> {
    if (seq === START.seq) return;
    const [at] = await this.#deps.log.noticesFrom(seq, 1);
    if (at?.seq !== seq || at.id !== eventId) throw anotherLog(name, seq);
  }

  async #eventsAfter(name: string, { seq }: LogCursor, signal: AbortSignal): Promise<readonly ConsumedEvent[]> {
    const { items } = await this.#deps.events.list(
      {
        tenantId: null,
        type: null,
        subjectType: null,
        subjectId: null,
        after: seq,
        order: 'oldest_first',
        limit: EVENTS_PAGE_MAX,
      },
      signal,
    );
    if (items.some((event, n) => event.seq !== seq + n + 1)) throw anotherLog(name, seq);
    return items;
  }
}

/** The cursor before the first event. */
const START: LogCursor = { seq: 0, eventId: null };

/** It is unknown which events were missed, so the consumer stops until an operator decides. */
function anotherLog(name: string, seq: number): PantheonError {
  const detail =
    `The log does not continue after event ${seq}, the last that ${name} has consumed: events were removed or replaced. ` +
    `Restore the whole database, or delete the row of ${name} in log_consumers, so that it begins again.`;
  return new PantheonError('store_unusable', { detail });
}
