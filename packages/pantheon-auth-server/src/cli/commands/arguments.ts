/** Parses arguments. Errors name the argument and do not repeat it. */
import type { Command } from 'commander';
import { PantheonError } from 'pantheon-auth';

/** @throws PantheonError `invalid_request` for anything but an id, which would otherwise change the path. */
export function pathOf([id = '']: readonly string[]): string {
  if (!/^[0-9A-Za-z]{16}$/.test(id)) throw invalid('id', 'An id is 16 letters and digits, as in keys list');
  return `/v1/keys/${id}`;
}

export function toCount(text: string, field: string): number {
  if (!/^\d{1,9}$/.test(text)) throw invalid(field, 'Write a whole number');
  return Number(text);
}

/** Adds `--if-match`, for changes based on what was shown before. */
export function withCondition(command: Command): Command {
  return command.option('--if-match <etag>', 'change it only if its etag, as shown by get --json, is still this');
}

/**
 * Sets the members of `--clear` to null, which removes them (RFC 7396). @throws PantheonError `invalid_request` for
 * what is set as well.
 */
export function withCleared(body: Readonly<Record<string, unknown>>, cleared: readonly string[]): object {
  const both = cleared.findIndex((name) => body[name] !== undefined);
  if (both !== -1) throw invalid(`clear[${both}]`, 'It is set by another option');
  return { ...body, ...Object.fromEntries(cleared.map((name) => [name, null])) };
}

/** An ETag as an answer showed it. Shells remove quotation marks, so they may be missing around a single tag. */
export function toIfMatch(text: string | undefined): string | undefined {
  return text !== undefined && /^[0-9A-Za-z_-]+$/.test(text) ? `"${text}"` : text;
}

export function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
