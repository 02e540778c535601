/** Pages of a list, and their maximum size. */
import { PantheonError } from '../foundation/errors.ts';

export interface Page<T> {
  /**
   * At most `limit`. May be fewer, or none, although there are more: a page ends when many records that do not match
   * the filter were read, or when its records are large. Only `nextCursor` shows whether it is the last page.
   */
  readonly items: readonly T[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
}

/** The largest page: about 200 kB of JSON. With large keys a page is shorter. */
export const PAGE_MAX = 200;
export const PAGE_DEFAULT = 50;
/** @throws PantheonError `invalid_request`. */
export function pageSize(limit: number = PAGE_DEFAULT): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= PAGE_MAX) return limit;
  throw new PantheonError('invalid_request', { field: 'limit', detail: `A whole number from 1 to ${PAGE_MAX}.` });
}
