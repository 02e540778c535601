import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { PantheonError } from '../foundation/errors.ts';
import { LocalKms } from './local-kms.ts';

const CONTEXT = { dataKeyId: 'a1b2c3d4e5f6g7h8', tenantId: 'default' };
const MISMATCH = { code: 'master_key_mismatch' };

test('a wrapped data key unwraps to the same bytes under the same master key and context', async () => {
  const masterKey = randomBytes(32);
  const dataKey = randomBytes(32);
  const wrapped = await new LocalKms(masterKey).wrap(dataKey, CONTEXT);
  expect(await new LocalKms(masterKey).unwrap(wrapped, { ...CONTEXT })).toEqual(dataKey);
});

test('the master key is copied: overwriting the bytes it came from changes nothing', async () => {
  const masterKey = randomBytes(32);
  const kms = new LocalKms(masterKey);
  const wrapped = await kms.wrap(randomBytes(32), CONTEXT);
  masterKey.fill(0);
  await expect(kms.unwrap(wrapped, CONTEXT)).resolves.toHaveLength(32);
});

test('another master key does not unwrap', async () => {
  const wrapped = await new LocalKms(randomBytes(32)).wrap(randomBytes(32), CONTEXT);
  await expect(new LocalKms(randomBytes(32)).unwrap(wrapped, CONTEXT)).rejects.toMatchObject(MISMATCH);
});

test.each([
  ['another tenant', { ...CONTEXT, tenantId: 'other' }],
  ['another data key id', { ...CONTEXT, dataKeyId: 'a1b2c3d4e5f6g7h9' }],
  ['the same characters split elsewhere', { tenantId: 'defaulta', dataKeyId: '1b2c3d4e5f6g7h8' }],
])('a wrapped data key does not unwrap for %s', async (_name, context) => {
  const kms = new LocalKms(randomBytes(32));
  const wrapped = await kms.wrap(randomBytes(32), CONTEXT);
  await expect(kms.unwrap(wrapped, context)).rejects.toMatchObject(MISMATCH);
});

test('no byte of a wrapped data key can be changed, and none can be missing', async () => {
  const kms = new LocalKms(randomBytes(32));
  const wrapped = Buffer.from(await kms.wrap(randomBytes(32), CONTEXT));
  for (let at = 0; at < wrapped.length; at += 1) {
    const changed = Buffer.from(wrapped);
    changed.writeUInt8(changed.readUInt8(at) ^ (1 << (at % 8)), at);
    await expect(kms.unwrap(changed, CONTEXT), `byte ${at}`).rejects.toMatchObject(MISMATCH);
    await expect(kms.unwrap(wrapped.subarray(0, at), CONTEXT), `cut to ${at}`).rejects.toMatchObject(MISMATCH);
  }
});

test('wrapping the same data key twice gives different bytes', async () => {
  const kms = new LocalKms(randomBytes(32));
  const dataKey = randomBytes(32);
  expect(await kms.wrap(dataKey, CONTEXT)).not.toEqual(await kms.wrap(dataKey, CONTEXT));
});

test('neither the KMS nor its errors show the master key or the data key', async () => {
  const masterKey = randomBytes(32);
  const dataKey = randomBytes(32);
  const kms = new LocalKms(masterKey);
  const wrapped = await kms.wrap(dataKey, CONTEXT);
  const error = await kms.unwrap(wrapped, { ...CONTEXT, tenantId: 'other' }).catch((failure: unknown) => failure);
  expect(error).toBeInstanceOf(PantheonError);
  const shown = inspect([kms, error], { depth: 9, showHidden: true }) + JSON.stringify([kms, error]);
  for (const secret of [masterKey, dataKey]) {
    for (const encoding of ['hex', 'base64', 'base64url', 'latin1'] as const) {
      expect(shown).not.toContain(secret.toString(encoding));
    }
  }
});

test.each([0, 16, 31, 33])('a master key of %i bytes is refused', (length) => {
  expect(() => new LocalKms(randomBytes(length))).toThrow('Invariant broken');
});
