/** What is written on the command line, read. What is wrong is named and not repeated. */
import type { Command } from 'commander';
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

/** For changes that were decided on what was shown. */
export function withCondition(command: Command): Command {
  return command.option('--if-match <etag>', 'only if it is still as it was: the etag that get --json showed');
}

/** Null takes away (RFC 7396). @throws PantheonError `invalid_request` for what is set as well. */
export function withCleared(body: Readonly<Record<string, unknown>>, cleared: readonly string[]): object {
  const both = cleared.findIndex((name) => body[name] !== undefined);
  if (both !== -1) throw invalid(`clear[${both}]`, 'It is set by another option');
  return { ...body, ...Object.fromEntries(cleared.map((name) => [name, null])) };
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
