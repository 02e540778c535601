/**
 * What is common to everything that callers may say, parsed: `unknown` in, values out. A mistake is named by its field with
 * the remedy; what was sent is never repeated.
 */
import { z } from 'zod';
import { AUDIENCE_LENGTH_MAX } from '../domain/claims.ts';
import { PantheonError } from '../foundation/errors.ts';
import { isVisible } from '../foundation/folded-text.ts';

/** Long enough for any person or job; short enough for a table. */
export const NAME_LENGTH_MAX = 128;
export const REASON_LENGTH_MAX = 256;

/**
 * Text for people: no control or direction characters, which could forge a log line or a table, and none that take no
 * room: two names that look the same would be two. Joiners stay, which emoji and some languages need.
 */
const UNSAFE_TEXT = /[\p{Cc}\p{Bidi_Control}\u2028\u2029\u00ad\u180e\u200b\u2060-\u2064\ufeff]/u;

export function line(lengthMax: number): z.ZodString {
  return z
    .string()
    .min(1, 'Must not be empty.')
    .max(lengthMax, `At most ${lengthMax} characters.`)
    .refine(
      (text) => text.isWellFormed() && !UNSAFE_TEXT.test(text),
      'Control and invisible characters are not allowed.',
    )
    .refine(isVisible, 'Nothing of it can be seen.')
    .refine((text) => text.trim() === text, 'Must not begin or end with a space.');
}

export const audience: z.ZodType<string, string> = z
  .string()
  .min(1)
  .max(AUDIENCE_LENGTH_MAX)
  .regex(/^[\x21-\x7e]+$/, 'Printable ASCII without spaces.');

/** The name of anything. @throws PantheonError `invalid_request`. */
export function parseName(input: unknown): string {
  return parse(z.strictObject({ name: line(NAME_LENGTH_MAX) }), { name: input }).name;
}

/** A reason that somebody gives: for the log. */
export function parseReason(input: unknown): string | null {
  return parse(z.strictObject({ reason: line(REASON_LENGTH_MAX).nullish() }), { reason: input ?? null }).reason ?? null;
}

/** Parses with a schema; the first issue becomes the error, under its path. */
export function parse<T extends z.ZodType>(schema: T, input: unknown): z.output<T> {
  const result = schema.safeParse(input ?? {});
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  // The parser's own words for this one repeat all the names that were sent.
  const detail = issue?.code === 'unrecognized_keys' ? 'There is no such field.' : issue?.message;
  throw invalid(fieldOf(issue), detail ?? 'It is not valid.');
}

function fieldOf(issue: z.core.$ZodIssue | undefined): string {
  const unknown = issue?.code === 'unrecognized_keys' ? nameOf(issue.keys[0] ?? '') : null;
  const path = [...(issue?.path ?? []), ...(unknown === null ? [] : [unknown])];
  return (
    path.reduce<string>(
      (text, part) =>
        typeof part === 'number' ? `${text}[${part}]` : text === '' ? String(part) : `${text}.${String(part)}`,
      '',
    ) || 'body'
  );
}

/** A name that the caller made up, if it looks like one: shorter than any secret, so that none is repeated by mistake. */
export function nameOf(text: string): string | null {
  return /^[A-Za-z_][A-Za-z0-9_.-]{0,23}$/.test(text) ? text : null;
}

export function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}

/**
 * An option that is yes or no. What is neither is refused: `'false'`, as a query has it, would be taken for yes.
 *
 * @throws PantheonError `invalid_request`.
 */
export function assertFlag(field: string, value: unknown): void {
  if (value === undefined || typeof value === 'boolean') return;
  throw new PantheonError('invalid_request', { field, detail: 'true or false.' });
}
