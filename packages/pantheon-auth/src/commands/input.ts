/**
 * Common parsers of input: `unknown` in, values out. An error names the field and what is allowed, and never repeats
 * input.
 */
import { z } from 'zod';
import { AUDIENCE_LENGTH_MAX, AUDIENCE_PATTERN } from '../domain/claims.ts';
import { PantheonError } from '../foundation/errors.ts';
import { fieldPath, showableName } from '../foundation/field-path.ts';
import { isVisible } from '../foundation/folded-text.ts';

/** Long enough for names of people and jobs, short enough for a table. */
export const NAME_LENGTH_MAX = 128;
export const REASON_LENGTH_MAX = 256;

/**
 * Characters refused in text for people: control and direction characters, which could forge a log line or a table, and
 * invisible ones, with which two names could look the same. Joiners are allowed, because emoji and some languages need
 * them.
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
    .refine(isVisible, 'It has no visible character.')
    .refine((text) => text.trim() === text, 'Must not begin or end with a space.');
}

export const audience: z.ZodType<string, string> = z
  .string()
  .min(1)
  .max(AUDIENCE_LENGTH_MAX)
  .regex(AUDIENCE_PATTERN, 'Must be printable ASCII without spaces.');

/** Parses a name. @throws PantheonError `invalid_request`. */
export function parseName(input: unknown): string {
  return parse(z.strictObject({ name: line(NAME_LENGTH_MAX) }), { name: input }).name;
}

/** Parses a reason for the audit trail. */
export function parseReason(input: unknown): string | null {
  return parse(z.strictObject({ reason: line(REASON_LENGTH_MAX).nullish() }), { reason: input ?? null }).reason ?? null;
}

/** Parses with a schema. @throws PantheonError `invalid_request` of {@link inputError}. */
export function parse<T extends z.ZodType>(schema: T, input: unknown): z.output<T> {
  const result = schema.safeParse(input ?? {});
  if (result.success) return result.data;
  throw inputError(result.error);
}

/**
 * The error `invalid_request` for input that a schema refused. It names the field of the first mistake, `body` for the
 * whole input, and never repeats input, which may be a secret in the wrong field.
 *
 * @example
 * ```ts
 * import { inputError, KEY_INPUT_SCHEMAS } from 'pantheon-auth';
 * const result = KEY_INPUT_SCHEMAS.create.safeParse({ userId: 'u', name: 'deploy', rateLimits: [{ limit: 0 }] });
 * if (!result.success) console.error(inputError(result.error).field);
 * ```
 */
export function inputError(error: z.ZodError): PantheonError {
  const [issue] = error.issues;
  if (issue?.code !== 'unrecognized_keys')
    return invalid(fieldPath(issue?.path ?? []) || 'body', issue?.message ?? 'It is not valid.');
  // zod's message for this issue would repeat the names that were sent.
  const unknown = showableName(issue.keys[0] ?? '');
  const path = unknown === null ? issue.path : [...issue.path, unknown];
  return invalid(fieldPath(path) || 'body', 'There is no such field.');
}

export function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}

/**
 * Checks a boolean option. Other values are refused, because the text `'false'` would count as true.
 *
 * @throws PantheonError `invalid_request`.
 */
export function assertFlag(field: string, value: unknown): void {
  if (value === undefined || typeof value === 'boolean') return;
  throw new PantheonError('invalid_request', { field, detail: 'Must be true or false.' });
}
