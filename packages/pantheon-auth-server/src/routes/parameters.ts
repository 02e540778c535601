/** Parameters that several routes take. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';

export const idParams = z.strictObject({ id: z.string().meta({ examples: ['4hTz9mQ2xKc81LpW'] }) });

/** In a query everything is text. */
export const flag = z
  .enum(['true', 'false'])
  .transform((text) => text === 'true')
  .optional();

/** For changes: how long it takes is the engine's. */
export const settleFlag = flag.describe(
  'Answer only when no node says yes on what was before any more: after about a second. Adds settledAt and offlineUntil.',
);

const wholeNumber = z
  .string()
  .regex(/^\d{1,9}$/, 'A whole number.')
  .transform(Number);

export const pageQuery = { cursor: z.string().optional(), limit: wholeNumber.optional() };

/** For the audit trail. The engine looks at it more closely. */
export const reasonBody = z.strictObject({ reason: z.string().optional() }).optional();

export const idempotencyHeader = z.object({
  'Idempotency-Key': z
    .string()
    .optional()
    .describe('A repeated request with the same key and body replaces the secret, as long as nobody has used it.'),
});

export function idempotencyKeyOf(request: FastifyRequest): { readonly idempotencyKey?: string } {
  const value = request.headers['idempotency-key'];
  return value === undefined ? {} : { idempotencyKey: String(value) };
}

/** Without what was left out, which the engine's exact types tell apart from `undefined`. */
export function given<T extends object>(input: T | undefined): Given<T> {
  return Object.fromEntries(Object.entries(input ?? {}).filter(([, value]) => value !== undefined)) as Given<T>;
}

type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };
