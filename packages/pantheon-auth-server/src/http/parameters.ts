/** Parameters that several routes take. In a path and a query everything is text: it is read as what is documented. */
import type { FastifyRequest } from 'fastify';
import { PAGE_DEFAULT, PAGE_MAX } from 'pantheon-auth';
import { z } from 'zod';

export const idParams = z.strictObject({ id: z.string().meta({ examples: ['4hTz9mQ2xKc81LpW'] }) });

const BOOLEANS: ReadonlyMap<unknown, boolean> = new Map([
  ['true', true],
  ['false', false],
]);

/** Off unless told otherwise. */
export const flag = z.preprocess((text) => BOOLEANS.get(text) ?? text, z.boolean('Write true or false.')).optional();

/** For changes: how long it takes is the engine's. */
export const settleFlag = flag.describe(
  'Answer only when no node says yes on what was before any more: after about a second. Adds settledAt and offlineUntil.',
);

export const forceFlag = flag.describe(
  'Also the last key that can administer. Needs the permission pantheon:keys:force.',
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
    'true: also every key that it created, and what those created. acted: also every key that it, or any of those, rotated, updated or resumed. Adds actedOn.',
  );

/** A whole number in digits, spelt one way; nine of them are exact. */
export function wholeNumber<Schema extends z.ZodType<number>>(schema: Schema) {
  return z.preprocess(
    (text) => (typeof text === 'string' && /^(?:0|[1-9]\d{0,8})$/.test(text) ? Number(text) : text),
    schema,
  );
}

const PAGE_ADVICE = `A whole number from 1 to ${PAGE_MAX}.`;

export const pageQuery = {
  cursor: z.string().optional().describe('Of the page before: its nextCursor. The filters stay the same.'),
  limit: wholeNumber(
    z.int(PAGE_ADVICE).min(1, PAGE_ADVICE).max(PAGE_MAX, PAGE_ADVICE).default(PAGE_DEFAULT),
  ).optional(),
};

/** For the audit trail. The engine looks at it more closely. */
export const reasonBody = z
  .strictObject({ reason: z.string().nullish().describe('Why, for the audit trail. 1 to 256 characters.') })
  .meta({ id: 'ReasonInput', examples: [{ reason: 'found in a log' }] })
  .optional();

export const tenantHeader = z.object({
  'Pantheon-Tenant': z
    .string()
    .optional()
    .describe('For keys of the system tenant: the tenant to act in. Default: default.'),
});

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

/** Of what is `conditional`. */
export const ifMatchHeader = z.object({
  'If-Match': z
    .string()
    .optional()
    .describe(
      'The ETag of the record that the change was decided on; several with commas; or *. A change that was decided on an older one is refused with 412. Weak tags match nothing.',
    )
    .meta({ examples: ['"k7"'] }),
});

/** For what is `conditional`. */
export function ifMatchOf(request: FastifyRequest): { readonly ifMatch?: string } {
  const value = request.headers['if-match'];
  return value === undefined ? {} : { ifMatch: value };
}

/** Without what was left out, as null too: the engine's exact types tell it apart from `undefined`. */
export function omitUndefined<T extends object>(input: T | undefined): OmitUndefined<T> {
  const entries = Object.entries(input ?? {}).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(entries) as OmitUndefined<T>;
}

type OmitUndefined<T> = { [K in keyof T]: Exclude<T[K], undefined | null> };
