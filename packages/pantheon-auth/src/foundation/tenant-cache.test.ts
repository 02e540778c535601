import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CACHE_ENTRY_BYTES, TenantCache } from './tenant-cache.ts';

/** Values are their own size. */
function cacheOf(bytesMax: number, entriesMax = 1_000): TenantCache<number> {
  return new TenantCache<number>({ bytesMax, entriesMax, sizeOf: (value) => value });
}

function fill(cache: TenantCache<number>, tenantId: string, count: number, bytes = 100): void {
  for (let n = 0; n < count; n += 1) cache.set(`${tenantId} ${n}`, tenantId, bytes);
}

const ENTRY = 100 + CACHE_ENTRY_BYTES;

test('the least recently used entry is removed first, and the bytes never exceed their bound', () => {
  const cache = cacheOf(20 * ENTRY);
  fill(cache, 'a', 20);
  expect([cache.size, cache.bytes]).toEqual([20, 20 * ENTRY]);
  expect(cache.get('a 0')).toBe(100);
  cache.set('b 0', 'b', 100);
  expect([cache.get('a 0'), cache.get('a 1'), cache.size]).toEqual([100, undefined, 20]);
});

test('one tenant may use all of it while no other needs it, and does not remove entries of others', () => {
  const cache = cacheOf(20 * ENTRY);
  fill(cache, 'small', 5);
  fill(cache, 'large', 500);
  for (let n = 0; n < 5; n += 1) expect(cache.get(`small ${n}`)).toBe(100);
  expect(cache.size).toBe(20);
  // Others take their part back, up to half.
  fill(cache, 'second', 500);
  const has = (tenantId: string): number =>
    Array.from({ length: 500 }, (_, n) => cache.get(`${tenantId} ${n}`)).filter((value) => value !== undefined).length;
  expect(has('second')).toBeGreaterThanOrEqual(10);
  expect(cache.bytes).toBeLessThanOrEqual(20 * ENTRY);
});

test('the number of entries is shared in the same way', () => {
  const cache = cacheOf(1_000_000, 10);
  fill(cache, 'small', 3, 1);
  fill(cache, 'large', 100, 1);
  for (let n = 0; n < 3; n += 1) expect(cache.get(`small ${n}`)).toBe(1);
  expect(cache.size).toBe(10);
});

test('an entry larger than a sixteenth of the cache is not kept', () => {
  const cache = cacheOf(16_000);
  cache.set('large', 'a', 1_001 - CACHE_ENTRY_BYTES);
  expect(cache.get('large')).toBeUndefined();
  cache.set('fits', 'a', 1_000 - CACHE_ENTRY_BYTES);
  expect(cache.get('fits')).toBe(1_000 - CACHE_ENTRY_BYTES);
  // Nor is what it was before.
  cache.set('fits', 'a', 1_001 - CACHE_ENTRY_BYTES);
  expect([cache.get('fits'), cache.bytes]).toEqual([undefined, 0]);
});

test('the keys of a tenant are removed together', () => {
  const cache = cacheOf(100 * ENTRY);
  fill(cache, 'a', 5);
  fill(cache, 'b', 5);
  cache.deleteTenant('a');
  cache.deleteTenant('nobody');
  expect([cache.size, cache.get('a 1'), cache.get('b 1')]).toEqual([5, undefined, 100]);
  cache.clear();
  expect([cache.size, cache.bytes]).toEqual([0, 0]);
});

test('for any sequence of operations, the accounts match the entries', () => {
  const step = fc.record({
    kind: fc.constantFrom('set', 'set', 'set', 'get', 'delete', 'tenant'),
    key: fc.integer({ min: 0, max: 30 }).map(String),
    tenantId: fc.constantFrom('a', 'b', 'c'),
    bytes: fc.integer({ min: 0, max: 2_000 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const cache = cacheOf(12_000, 8);
      const newest = new Map<string, number>();
      for (const { kind, key, tenantId, bytes } of steps) {
        if (kind === 'set') {
          cache.set(key, tenantId, bytes);
          newest.set(key, bytes);
        } else if (kind === 'get') cache.get(key);
        else if (kind === 'delete') cache.delete(key);
        else cache.deleteTenant(tenantId);
        expect(cache.bytes).toBeLessThanOrEqual(12_000);
        expect(cache.size).toBeLessThanOrEqual(8);
      }
      let bytes = 0;
      for (const key of newest.keys()) {
        const value = cache.get(key);
        if (value === undefined) continue;
        expect(value).toBe(newest.get(key));
        bytes += value + CACHE_ENTRY_BYTES;
      }
      expect(cache.bytes).toBe(bytes);
      for (const tenantId of ['a', 'b', 'c']) cache.deleteTenant(tenantId);
      expect([cache.size, cache.bytes]).toEqual([0, 0]);
    }),
  );
});
