/** What a list is narrowed by. */
import { PantheonError } from './errors.ts';

/**
 * A filter that was given narrows. An empty one is a slip of the caller (a user id that was not there), and answering it
 * with everything would show one user the keys of all.
 *
 * @throws PantheonError `invalid_request`, naming the filter.
 */
export function assertFilters(filters: object): void {
  for (const [field, value] of Object.entries(filters)) {
    // Not a filter: a text that is none is told by who reads it.
    if (field === 'cursor' && typeof value === 'string') continue;
    const isEmpty = value === null || (typeof value === 'string' && value.trim() === '');
    if (isEmpty) throw new PantheonError('invalid_request', { field, detail: 'It is empty. Leave it out to see all.' });
    if (value !== undefined && typeof value !== 'string' && typeof value !== 'number')
      throw new PantheonError('invalid_request', { field, detail: 'Write it as text.' });
  }
}
