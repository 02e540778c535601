import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LEAF_RANDOM_BYTES, leafHash } from './merkle.ts';

/** From an independent implementation (Python's hashlib). The first is also the leaf of no bytes of RFC 9162. */
test.each([
  [new Uint8Array(0), '', '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'],
  [
    Uint8Array.from({ length: LEAF_RANDOM_BYTES }, (_, at) => at),
    '{"a":"é"}',
    '97c14264ab4357496287752336a0eb5f045aaa8da297fe93a7fd9b298c802039',
  ],
])('a leaf is SHA-256(0x00 ‖ random ‖ event): vector %#', (random, event, hex) => {
  expect(leafHash(random, event).toString('hex')).toBe(hex);
});

test('another event or other random bytes give another leaf', () => {
  const random = fc.uint8Array({ minLength: LEAF_RANDOM_BYTES, maxLength: LEAF_RANDOM_BYTES });
  fc.assert(
    fc.property(random, random, fc.string(), fc.string(), (r1, r2, e1, e2) => {
      const isSame = Buffer.compare(r1, r2) === 0 && e1 === e2;
      expect(leafHash(r1, e1).equals(leafHash(r2, e2))).toBe(isSame);
    }),
  );
});
