import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PantheonError } from '../foundation/errors.ts';
import type { KeyEncryption } from './key-encryption.ts';
import { LocalKms } from './local-kms.ts';
import { checkCanary, createMasterKeyFile, loadMasterKeyFile, parseMasterKey, sealCanary } from './master-key.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'master-key-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const noWarning = (warning: string): void => {
  throw new Error(`unexpected warning: ${warning}`);
};

test('every accepted form of 32 random bytes is parsed to those bytes', () => {
  fc.assert(
    fc.property(fc.constantFrom('hex', 'base64', 'base64url'), fc.boolean(), (encoding, spaced) => {
      const key = randomBytes(32);
      const text = key.toString(encoding);
      expect(parseMasterKey(spaced ? ` ${text}\r\n` : text)).toEqual(key);
      expect(parseMasterKey(text.replace(/=$/, ''))).toEqual(key);
    }),
  );
});

test('hex is accepted in either case', () => {
  const key = randomBytes(32);
  expect(parseMasterKey(key.toString('hex').toUpperCase())).toEqual(key);
});

const GOOD = Buffer.from('8f3a1c5e7d9b2046a8c0e2f4163850729bbdcfe1f3152739', 'hex');
test.each([
  ['nothing', ''],
  ['31 bytes', randomBytes(31).toString('base64')],
  ['33 bytes', randomBytes(33).toString('base64')],
  ['63 hex digits', randomBytes(32).toString('hex').slice(1)],
  ['a sentence', 'correct horse battery staple correct horse bat'],
  ['base64 with a stray character', `${randomBytes(32).toString('base64url').slice(0, 20)} ${'A'.repeat(22)}`],
  [
    'base64 whose last bits are not zero',
    `${Buffer.concat([GOOD, Buffer.alloc(8)])
      .toString('base64url')
      .slice(0, 42)}B`,
  ],
  ['two padding signs', `${randomBytes(32).toString('base64')}=`],
])('%s is refused and not repeated', (_name, text) => {
  const error = refusalOf(() => parseMasterKey(text));
  expect(error).toMatchObject({ code: 'invalid_setting', field: 'masterKey' });
  if (text !== '') expect(error.message).not.toContain(text);
});

test.each(['00', 'ff', '41', 'deadbeef', '00010203'])('the placeholder %s… is refused', (pattern) => {
  const error = refusalOf(() => parseMasterKey(pattern.repeat(64 / pattern.length)));
  expect(error).toMatchObject({ code: 'invalid_setting', field: 'masterKey' });
  expect(error.message).not.toContain(pattern.repeat(2));
});

test('random keys are never refused as placeholders', () => {
  for (let run = 0; run < 10_000; run += 1) parseMasterKey(randomBytes(32).toString('hex'));
});

test('a created master key file has mode 0600, and is read as the key that was returned', async () => {
  const path = join(folder, 'master.key');
  const key = await createMasterKeyFile(path);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readFile(path, 'latin1')).toBe(`${key.toString('base64url')}\n`);
  expect(await loadMasterKeyFile(path, noWarning)).toEqual(key);
  expect(await readdir(folder)).toEqual(['master.key']);
});

test('an existing file is never replaced, and no other file is left beside it', async () => {
  const path = join(folder, 'master.key');
  await writeFile(path, 'something else');
  await expect(createMasterKeyFile(path)).rejects.toMatchObject({ code: 'already_exists' });
  expect(await readFile(path, 'latin1')).toBe('something else');
  expect(await readdir(folder)).toEqual(['master.key']);
});

test('of many processes that create it at once one does, and all read that one', async () => {
  const path = join(folder, 'master.key');
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => createMasterKeyFile(path)));
  const made = outcomes.filter((outcome) => outcome.status === 'fulfilled').map((outcome) => outcome.value);
  expect(made).toHaveLength(1);
  expect([await loadMasterKeyFile(path, noWarning)]).toEqual(made);
  expect(await readdir(folder)).toEqual(['master.key']);
});

test('a missing folder is reported as a wrong setting', async () => {
  const creating = createMasterKeyFile(join(folder, 'absent', 'master.key'));
  await expect(creating).rejects.toMatchObject({ code: 'invalid_setting', field: 'masterKeyFile' });
});

test('a missing file is reported as a missing master key', async () => {
  const loading = loadMasterKeyFile(join(folder, 'absent'), noWarning);
  await expect(loading).rejects.toMatchObject({ code: 'master_key_missing', field: 'masterKeyFile' });
});

test.each([0o640, 0o604, 0o644])('a file of mode %o is read with a warning that says what to do', async (mode) => {
  const path = join(folder, 'master.key');
  const key = await createMasterKeyFile(path);
  await chmod(path, mode);
  const warnings: string[] = [];
  expect(await loadMasterKeyFile(path, (warning) => warnings.push(warning))).toEqual(key);
  expect(warnings).toEqual([expect.stringContaining(`chmod 600 ${path}`)]);
  expect(warnings.join()).not.toContain(key.toString('base64url'));
});

test('a symbolic link is followed, as Kubernetes mounts secrets', async () => {
  const key = await createMasterKeyFile(join(folder, 'data'));
  await symlink('data', join(folder, 'link'));
  expect(await loadMasterKeyFile(join(folder, 'link'), noWarning)).toEqual(key);
});

test('anything but a small file with a key is refused: a folder, a pipe, a loop of links, a large or an empty file', async () => {
  const setting = { code: 'invalid_setting', field: 'masterKeyFile' };
  await writeFile(join(folder, 'large'), 'A'.repeat(1_025), { mode: 0o600 });
  await writeFile(join(folder, 'empty'), '', { mode: 0o600 });
  await symlink('loop', join(folder, 'loop'));
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  for (const name of ['.', 'pipe', 'loop', 'large', 'empty']) {
    await expect(loadMasterKeyFile(join(folder, name), noWarning), name).rejects.toMatchObject(setting);
  }
});

test('the canary is decrypted with the master key that sealed it and with no other', async () => {
  const masterKey = randomBytes(32);
  const canary = await sealCanary(new LocalKms(masterKey));
  await expect(checkCanary(new LocalKms(masterKey), canary)).resolves.toBeUndefined();
  const other = checkCanary(new LocalKms(randomBytes(32)), canary);
  await expect(other).rejects.toMatchObject({ code: 'master_key_mismatch' });
});

test.each([randomBytes(32), randomBytes(31)])(
  'a KMS that decrypts the canary to another value is refused',
  async (opened) => {
    const kms: KeyEncryption = { wrap: async () => Buffer.alloc(1), unwrap: async () => opened };
    await expect(checkCanary(kms, Buffer.alloc(1))).rejects.toMatchObject({ code: 'master_key_mismatch' });
  },
);

test('an unavailable KMS is not reported as a wrong master key', async () => {
  const outage = new PantheonError('store_unavailable');
  const kms: KeyEncryption = { wrap: async () => Buffer.alloc(1), unwrap: () => Promise.reject(outage) };
  await expect(checkCanary(kms, Buffer.alloc(1))).rejects.toBe(outage);
});

function refusalOf(run: () => unknown): PantheonError {
  try {
    run();
  } catch (error) {
    if (error instanceof PantheonError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}
