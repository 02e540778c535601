/**
 * What follows the log and may not miss an event, as alerts and webhooks: each has a cursor in the database, and one node
 * at a time brings it the events after it. What a node remembers of access state is kept right by `events/event-feed.ts`
 * instead, which begins at the head on each node and skips what is too much.
 */
import type { DamagedEvent, LoggedEvent } from '../domain/event.ts';
import type { LeaseHeld } from '../events/ledger.ts';

export interface LogConsumer {
  /** Lower-case letters and dashes. It names the cursor and the job: never reused. */
  readonly name: string;
  /** Where it begins when it runs for the first time: with the first event there is, or with the next. */
  readonly startsAt: 'beginning' | 'head';
  /**
   * Takes the next events, in order, without a gap. Called again with the same events, and perhaps others after them,
   * when it throws or the process dies before the cursor is stored: what it does with an event must be safe to repeat.
   */
  consume(events: readonly ConsumedEvent[], run: ConsumerRun): Promise<void>;
}

/** A damaged one says where it stands and nothing else: it is an event all the same. */
export type ConsumedEvent = LoggedEvent | DamagedEvent;

export interface ConsumerRun {
  /** Aborted when the process stops, another node has taken over, or this takes too long. */
  readonly signal: AbortSignal;
  /** As a precondition of a commit. */
  readonly lease: LeaseHeld;
}

/** The last event that was consumed. */
export interface LogCursor {
  /** 0: none yet. */
  readonly seq: number;
  readonly eventId: string | null;
}

/** The port. Implemented over SQL. A write is refused with `conflict` once the lease is lost. */
export interface LogCursorRows {
  find(name: string): Promise<LogCursor | null>;
  insert(name: string, cursor: LogCursor, lease: LeaseHeld): Promise<void>;
  /** @throws PantheonError `conflict` when it does not stand at `from` any more. */
  advance(name: string, from: LogCursor, to: LogCursor, lease: LeaseHeld): Promise<void>;
}
