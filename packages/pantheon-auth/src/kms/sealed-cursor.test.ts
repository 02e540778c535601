import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { refusalOf } from '../../test/refusal-of.ts';
import type { Json } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { Sealer } from './encryption-context.ts';
import { Envelope } from './envelope.ts';
import type { DataKeyRows, StoredDataKey } from './key-encryption.ts';
import { LocalKms } from './local-kms.ts';
import { SealedCursors } from './sealed-cursor.ts';

function cursors(): SealedCursors {
  const keys = new Map<string, StoredDataKey>();
  const rows = {
    byId: async (id: string) => keys.get(id) ?? null,
    active: async (tenantId: string) => [...keys.values()].find((key) => key.tenantId === tenantId) ?? null,
    add: async (key: StoredDataKey) => {
      keys.set(key.id, key);
      return key;
    },
    takeSeals: async (_id: string, seals: number) => seals,
  } as unknown as DataKeyRows;
  return new SealedCursors(new Envelope({ kms: new LocalKms(randomBytes(32)), rows, clock: new TestClock() }));
}

test('a position is decrypted unchanged, only for the list and the tenant it was sealed for', async () => {
  const sealed = cursors();
  await fc.assert(
    fc.asyncProperty(fc.jsonValue({ maxDepth: 1 }), async (value) => {
      const position = JSON.parse(JSON.stringify(value)) as Json;
      fc.pre(JSON.stringify(position).length < 200);
      const cursor = await sealed.write('keys', 'default', position);
      expect(cursor).toMatch(/^[\w-]+$/);
      expect(await sealed.read('keys', 'default', cursor)).toEqual(position);
      for (const [list, tenant] of [
        ['keys', 'acme'],
        ['events', 'default'],
        ['key', 's default'],
      ] as const)
        expect(await refusalOf(sealed.read(list, tenant, cursor))).toMatchObject({
          code: 'invalid_cursor',
          field: 'cursor',
        });
    }),
    { numRuns: 30 },
  );
});

test('any change to it makes it invalid', async () => {
  const sealed = cursors();
  const cursor = await sealed.write('keys', 'default', { createdAt: 1, id: 'a' });
  await fc.assert(
    fc.asyncProperty(fc.nat(cursor.length - 1), fc.constantFrom(...'AZaz09-_=% '), async (at, character) => {
      fc.pre(cursor[at] !== character);
      const changed = cursor.slice(0, at) + character + cursor.slice(at + 1);
      expect((await refusalOf(sealed.read('keys', 'default', changed))).code).toBe('invalid_cursor');
    }),
  );
  for (const wrong of ['', cursor.slice(1), `${cursor}A`, cursor.repeat(10), 'null'])
    expect((await refusalOf(sealed.read('keys', 'default', wrong))).code).toBe('invalid_cursor');
});

test('two cursors of one position differ: comparing them reveals nothing', async () => {
  const sealed = cursors();
  expect(await sealed.write('keys', 'default', 1)).not.toBe(await sealed.write('keys', 'default', 1));
});

test('an unavailable store is reported as such, and not as a wrong cursor', async () => {
  const away = { open: async () => Promise.reject(new PantheonError('store_unavailable')) } as unknown as Sealer;
  const cursor = Buffer.alloc(60).toString('base64url');
  expect((await refusalOf(new SealedCursors(away).read('keys', 'default', cursor))).code).toBe('store_unavailable');
});
