/** Checks of list filters. */
import { PantheonError } from './errors.ts';

/**
 * An empty filter is refused: it is likely a bug of the caller (such as a missing user id), and ignoring it would show
 * one user the keys of all users.
 *
 * @throws PantheonError `invalid_request`, naming the filter.
 */
export function assertFilters(filters: object): void {
  for (const [field, value] of Object.entries(filters)) {
    // The cursor is not a filter. Its reader validates it.
    if (field === 'cursor' && typeof value === 'string') continue;
    const isEmpty = value === null || (typeof value === 'string' && value.trim() === '');
    if (isEmpty) throw new PantheonError('invalid_request', { field, detail: 'It is empty. Omit it to list all.' });
    if (value !== undefined && typeof value !== 'string' && typeof value !== 'number')
      throw new PantheonError('invalid_request', { field, detail: 'Write it as text.' });
  }
}
