/**
 * Parameters that several routes take. Values in a path or query arrive as text and are converted to the documented
 * type.
 */
import type { FastifyRequest } from 'fastify';
import { PAGE_DEFAULT, PAGE_MAX } from 'pantheon-auth';
import { z } from 'zod';

export const idParams = z.strictObject({ id: z.string().meta({ examples: ['4hTz9mQ2xKc81LpW'] }) });

const BOOLEANS: ReadonlyMap<unknown, boolean> = new Map([
  ['true', true],
  ['false', false],
]);

/** A boolean of the query; absent means false. */
export const flag = z.preprocess((text) => BOOLEANS.get(text) ?? text, z.boolean('Write true or false.')).optional();

/** For changes. The engine determines the waiting time. */
export const settleFlag = flag.describe(
  'Wait, about a second, until no node accepts what this change ends. Adds settledAt and offlineUntil to the answer.',
);

export const forceFlag = flag.describe(
  'Do it also when the key is the last administrator. Needs the permission pantheon:keys:force.',
);

const CASCADES: ReadonlyMap<unknown, boolean | 'acted'> = new Map<unknown, boolean | 'acted'>([
  ...BOOLEANS,
  ['acted', 'acted'],
]);

export const cascadeFlag = z
  .preprocess(
    (text) => CASCADES.get(text) ?? text,
    z.union([z.boolean(), z.literal('acted')], 'Write true, false or acted.'),
  )
  .optional()
  .describe(
    'true: also revoke every key that this key created, and the keys that those created. acted: also revoke every key that any of them rotated, updated or resumed, and the tokens of keys for which any of them had tokens issued. Adds actedOn to the answer.',
  );

/** A whole number of at most nine digits, without leading zeros, so that it has one spelling and is exact. */
export function wholeNumber<Schema extends z.ZodType<number>>(schema: Schema) {
  return z.preprocess(
    (text) => (typeof text === 'string' && /^(?:0|[1-9]\d{0,8})$/.test(text) ? Number(text) : text),
    schema,
  );
}

const PAGE_ADVICE = `A whole number from 1 to ${PAGE_MAX}.`;

export const pageQuery = {
  cursor: z.string().optional().describe('The nextCursor of the previous page. Send the same filters with it.'),
  limit: wholeNumber(
    z.int(PAGE_ADVICE).min(1, PAGE_ADVICE).max(PAGE_MAX, PAGE_ADVICE).default(PAGE_DEFAULT),
  ).optional(),
};

/** The reason for the audit trail. The engine checks its length and characters. */
export const reasonBody = z
  .strictObject({
    reason: z.string().nullish().describe('The reason, recorded in the audit trail. 1 to 256 characters.'),
  })
  .meta({ id: 'ReasonInput', examples: [{ reason: 'found in a log' }] })
  .optional();

export const tenantHeader = z.object({
  'Pantheon-Tenant': z
    .string()
    .optional()
    .describe('Only for keys of the system tenant: the id of the tenant to act in. Default: default.'),
});

export const idempotencyHeader = z.object({
  'Idempotency-Key': z
    .string()
    .optional()
    .describe(
      'A request that is repeated with the same Idempotency-Key and body does not create or rotate a key again. Its answer has a new key string, which replaces that of the first answer; if that one has been used, the answer is 409 already_claimed.',
    ),
});

export function idempotencyKeyOf(request: FastifyRequest): { readonly idempotencyKey?: string } {
  const value = request.headers['idempotency-key'];
  return value === undefined ? {} : { idempotencyKey: String(value) };
}

/** For operations with `conditional`. */
export const ifMatchHeader = z.object({
  'If-Match': z
    .string()
    .optional()
    .describe(
      'The ETag of the record that you read, or several separated by commas, or *. If the record has changed since, the request is refused with 412. Weak tags never match.',
    )
    .meta({ examples: ['"k7"'] }),
});

/** For operations with `conditional`. */
export function ifMatchOf(request: FastifyRequest): { readonly ifMatch?: string } {
  const value = request.headers['if-match'];
  return value === undefined ? {} : { ifMatch: value };
}

/**
 * The input without members that are null or undefined: the engine's types (`exactOptionalPropertyTypes`) do not take
 * them.
 */
export function omitUndefined<T extends object>(input: T | undefined): OmitUndefined<T> {
  const entries = Object.entries(input ?? {}).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(entries) as OmitUndefined<T>;
}

type OmitUndefined<T> = { [K in keyof T]: Exclude<T[K], undefined | null> };
