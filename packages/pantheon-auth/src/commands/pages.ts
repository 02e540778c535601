/** Pages of a list: what one looks like, and how large it may be. */
import { PantheonError } from '../foundation/errors.ts';

export interface Page<T> {
  /**
   * At most `limit`. May be fewer, or none, although there are more: a page ends when many records were looked at that do
   * not match the filter, or when the records on it are large. Only `nextCursor` tells whether it is the last.
   */
  readonly items: readonly T[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
}

/** One page: about 200 kB of JSON. Large keys end it sooner. */
export const PAGE_MAX = 200;
export const PAGE_DEFAULT = 50;
/** @throws PantheonError `invalid_request`. */
export function pageSize(limit: number = PAGE_DEFAULT): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= PAGE_MAX) return limit;
  throw new PantheonError('invalid_request', { field: 'limit', detail: `A whole number from 1 to ${PAGE_MAX}.` });
}
