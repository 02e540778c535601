/** What is written on the command line, read. What is wrong is named and not repeated. */
import { PantheonError } from 'pantheon-auth';

/** @throws PantheonError `invalid_request`: an id of another form is a slip, and would change the path. */
export function pathOf([id = '']: readonly string[]): string {
  if (!/^[0-9A-Za-z]{16}$/.test(id)) throw invalid('id', 'An id is 16 letters and digits, as in keys list');
  return `/v1/keys/${id}`;
}

export function toCount(text: string, field: string): number {
  if (!/^\d{1,9}$/.test(text)) throw invalid(field, 'Write a whole number');
  return Number(text);
}

/**
 * An entity tag as an answer showed it. Shells eat quotation marks, so those of one tag may be left out.
 */
export function toIfMatch(text: string | undefined): string | undefined {
  return text !== undefined && /^[0-9A-Za-z_-]+$/.test(text) ? `"${text}"` : text;
}

export function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
