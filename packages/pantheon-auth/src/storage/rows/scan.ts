/**
 * A page of a list, found by going along a range of an index. Where a filter has no index the range is looked at in
 * slices, and only so many rows for one page: then the page is short, and says where to go on.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ListPart } from '../../foundation/list-part.ts';

/** Rows that one statement looks at: a millisecond or two, so that reads of others come in between. */
export const SLICE_ROWS = 1_000;
/** Rows that are looked at for one page. Who has more of them pages on through what does not match. */
export const PAGE_ROWS_EXAMINED_MAX = 10_000;
/** Of one page as it comes from the database. Ordinary rows are far smaller: a full page of them is a fifth of it. */
export const PAGE_BYTES_MAX: number = 1_024 * 1_024;

/** What a row of the list takes, read before the row itself is. */
export interface Measured {
  readonly bytes: number;
}

export interface Scan<Found extends Measured, Position> {
  readonly limit: number;
  readonly after: Position | null;
  /** Whether every row of the range is on the page: then nothing is looked at in vain. */
  readonly isWhole: boolean;
  readonly signal: AbortSignal | undefined;
  /** Of the next `rows` rows of the range those that match, at most `limit`, in order. */
  matches(after: Position | null, rows: number, limit: number): Promise<readonly Found[]>;
  /** The last of the next `rows` rows of the range; null when there are not so many. */
  endOf(after: Position | null, rows: number): Promise<Position | null>;
  positionOf(found: Found): Position;
}

/** @throws the reason of the signal when it is aborted in between. */
export async function scan<Found extends Measured, Position>(
  list: Scan<Found, Position>,
): Promise<ListPart<Found, Position>> {
  const { limit, signal } = list;
  const found: Found[] = [];
  let after = list.after;
  // One more than asked for tells whether there are more.
  const rows = list.isWhole ? limit + 1 : SLICE_ROWS;
  for (let examined = 0; ; ) {
    signal?.throwIfAborted();
    found.push(...(await list.matches(after, rows, limit + 1 - found.length)));
    const fitting = countFitting(found, limit);
    const last = found[fitting - 1];
    if (fitting < found.length && last !== undefined) {
      return { items: found.slice(0, fitting), next: list.positionOf(last) };
    }
    if (list.isWhole) return { items: found, next: null };
    after = await list.endOf(after, rows);
    examined += rows;
    if (after === null || examined >= PAGE_ROWS_EXAMINED_MAX) return { items: found, next: after };
    await nextTurn();
  }
}

/** At least one: a page on which nothing fits would be the end of the list. */
function countFitting(found: readonly Measured[], limit: number): number {
  let bytes = 0;
  for (const [at, { bytes: more }] of found.entries()) {
    bytes += more;
    if (at === limit || (at > 0 && bytes > PAGE_BYTES_MAX)) return at;
  }
  return found.length;
}
