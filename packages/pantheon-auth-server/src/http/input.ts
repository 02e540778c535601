/**
 * Parses query, path and body of a request with a schema. An error names the field and never repeats its value, which
 * may be a secret in the wrong field.
 */
import { type ErrorCode, PantheonError } from 'pantheon-auth';
import type { z } from 'zod';

/** Unknown member names are repeated in errors only if they are shorter than any secret. */
const SAFE_NAME = /^[A-Za-z_][A-Za-z0-9_.-]{0,23}$/;

/** Returns the error as a value, as Fastify expects of a validator. */
export function toValidator(schema: z.ZodType, code: ErrorCode = 'invalid_request') {
  return (input: unknown): { readonly value: unknown } | { readonly error: PantheonError } => {
    // Fastify passes null when no body was sent.
    const result = schema.safeParse(input ?? undefined);
    return result.success ? { value: result.data } : { error: toError(result.error.issues[0], code) };
  };
}

function toError(issue: z.core.$ZodIssue | undefined, code: ErrorCode): PantheonError {
  if (code !== 'invalid_request') return new PantheonError(code);
  const isUnknown = issue?.code === 'unrecognized_keys';
  const [unknown = ''] = isUnknown ? issue.keys : [];
  const path = [...(issue?.path ?? []), ...(isUnknown && SAFE_NAME.test(unknown) ? [unknown] : [])];
  return new PantheonError('invalid_request', {
    field: path.reduce<string>(joinPath, '') || 'body',
    detail: isUnknown ? 'There is no such field.' : (issue?.message ?? 'It is not valid.'),
  });
}

function joinPath(path: string, part: PropertyKey): string {
  if (typeof part === 'number') return `${path}[${part}]`;
  return path === '' ? String(part) : `${path}.${String(part)}`;
}
