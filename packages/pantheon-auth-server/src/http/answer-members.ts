/** Members that several answer schemas share. */
import { z } from 'zod';

export const time = z.iso.datetime().meta({ examples: ['2030-01-31T00:00:00.000Z'] });
export const json = z.record(z.string(), z.unknown());
export const environment = z.enum(['live', 'test']);

/** Shortened, so that secret scanners do not report it as a key. */
export const EXAMPLE_KEY = 'pan_live_0123456789abcdef…';

export const etag = z
  .string()
  .describe('Send it unchanged in If-Match.')
  .meta({ examples: ['"k7"'] });

/** What `settle=true` adds to the answer of a change. */
export const settled = {
  settledAt: time
    .optional()
    .describe(
      'With settle=true: from this time on no node accepts what this change ended. Absent if this node did not wait, because it is stopping or too many requests wait already.',
    ),
  offlineUntil: time
    .nullable()
    .optional()
    .describe(
      'With settle=true: the latest exp of a token issued before the change. Until then, plus its own leeway, a verifier that has only the public keys may accept such a token. Null when only this service verifies tokens of the key.',
    ),
};

export function pageOf<Item extends z.ZodType>(item: Item) {
  return z.strictObject({
    items: z.array(item),
    nextCursor: z
      .string()
      .nullable()
      .describe('Null on the last page. Earlier pages may have fewer items than the limit, or none.'),
  });
}
