/** Parses query, path and body of a request with a schema. */
import { type ErrorCode, inputError, PantheonError } from 'pantheon-auth';
import type { z } from 'zod';

/** Returns the error as a value, as Fastify expects of a validator. */
export function toValidator(schema: z.ZodType, code: ErrorCode = 'invalid_request') {
  return (input: unknown): { readonly value: unknown } | { readonly error: PantheonError } => {
    // Fastify passes null when no body was sent.
    const result = schema.safeParse(input ?? undefined);
    if (result.success) return { value: result.data };
    return { error: code === 'invalid_request' ? inputError(result.error) : new PantheonError(code) };
  };
}
