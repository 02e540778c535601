/** Members that many answers have. */
import { z } from 'zod';

export const time = z.iso.datetime().meta({ examples: ['2030-01-31T00:00:00.000Z'] });
export const json = z.record(z.string(), z.unknown());
export const environment = z.enum(['live', 'test']);

/** Cut off, so that no scanner takes it for a key. */
export const EXAMPLE_KEY = 'pan_live_0123456789abcdef…';

export const etag = z
  .string()
  .describe('For If-Match, as it is.')
  .meta({ examples: ['"k7"'] });

/** What `settle=true` adds to the answer of a change. */
export const settled = {
  settledAt: time
    .optional()
    .describe(
      'With settle=true: from then on no node says yes on what was before. Absent: this node is stopping and did not wait.',
    ),
  offlineUntil: time
    .nullable()
    .optional()
    .describe(
      'With settle=true: the latest exp of a token issued before; until then, and its own leeway, a verifier that has only the public keys may accept one. Null: only this service verifies the tokens of the key.',
    ),
};

export function pageOf<Item extends z.ZodType>(item: Item) {
  return z.strictObject({
    items: z.array(item),
    nextCursor: z
      .string()
      .nullable()
      .describe('Null on the last page. A page before it may have fewer items than its limit, or none.'),
  });
}
