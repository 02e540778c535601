/**
 * A consumer of the log that must not miss an event, such as alerts and webhooks. Each has a cursor in the database,
 * and one node at a time passes it the events after the cursor. Caches use `events/event-feed.ts` instead, which begins
 * at the head on each node and may skip events.
 */
import type { DamagedEvent, LoggedEvent } from '../domain/event.ts';
import type { LeaseHeld } from '../events/ledger.ts';

export interface LogConsumer {
  /** Lower-case letters and dashes. The name of the cursor and the job. Never reused. */
  readonly name: string;
  /** Where it begins on its first run: at the first event, or after the current head. */
  readonly startsAt: 'beginning' | 'head';
  /**
   * Processes the next events, in order, without gaps. It is called again with the same events, and possibly later
   * ones, if it throws or the process dies before the cursor is stored, so it must be safe to repeat.
   */
  consume(events: readonly ConsumedEvent[], run: ConsumerRun): Promise<void>;
}

/** A damaged event has only its position and type, but is passed on too. */
export type ConsumedEvent = LoggedEvent | DamagedEvent;

export interface ConsumerRun {
  /** Aborted when the process stops, another node has taken over, or this takes too long. */
  readonly signal: AbortSignal;
  /** A precondition for commits. */
  readonly lease: LeaseHeld;
}

/** The last consumed event. */
export interface LogCursor {
  /** 0: none yet. */
  readonly seq: number;
  readonly eventId: string | null;
}

/** The port for cursors. Implemented in `storage/rows/`. A write is refused with `conflict` after the lease is lost. */
export interface LogCursorRows {
  find(name: string): Promise<LogCursor | null>;
  insert(name: string, cursor: LogCursor, lease: LeaseHeld): Promise<void>;
  /** @throws PantheonError `conflict` when the cursor is no longer at `from`. */
  advance(name: string, from: LogCursor, to: LogCursor, lease: LeaseHeld): Promise<void>;
}
