/** Checks of list filters. */
import { PantheonError } from './errors.ts';
import { showableName } from './field-path.ts';

/** The start and the length of a page are not filters. `undefined` is the first page, and the default length. */
const OF_THE_PAGE: ReadonlySet<string> = new Set(['cursor', 'limit']);

/**
 * An empty or unknown filter is refused: it is likely a bug of the caller (such as a missing user id or a misspelt name),
 * and ignoring it would show one user the keys of all users.
 *
 * @throws PantheonError `invalid_request`, naming the filter.
 */
export function assertFilters(filters: object, known: ReadonlySet<string>): void {
  if (typeof filters !== 'object' || filters === null) throw invalid('filter', 'An object, or nothing.');
  for (const [field, value] of Object.entries(filters)) {
    if (!known.has(field)) throw invalid(showableName(field) ?? 'filter', 'There is no such filter.');
    if (OF_THE_PAGE.has(field) && value === undefined) continue;
    // The reader of the cursor validates it, and the maker of the page its length.
    if (field === 'cursor' && typeof value === 'string') continue;
    const isEmpty = value === null || value === undefined || (typeof value === 'string' && value.trim() === '');
    if (isEmpty) throw invalid(field, 'It is empty. Omit it to list all.');
    if (typeof value !== 'string' && field !== 'limit') throw invalid(field, 'Write it as text.');
  }
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
