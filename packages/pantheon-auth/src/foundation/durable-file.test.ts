import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SecretFile } from './durable-file.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pantheon-durable-file-'));
  path = join(folder, 'secret');
});

afterEach(() => rm(folder, { recursive: true, force: true }));

test('a created file is whole, of its owner alone, and the only one that is left', async () => {
  await SecretFile.create(path, 'text\n');
  expect(await readFile(path, 'latin1')).toBe('text\n');
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(['secret']);
});

test('an existing file is never replaced, and nothing is left beside it', async () => {
  await writeFile(path, 'something else');
  await expect(SecretFile.create(path, 'text')).rejects.toMatchObject({ code: 'EEXIST' });
  await expect(SecretFile.claim(path)).rejects.toMatchObject({ code: 'EEXIST' });
  expect(await readFile(path, 'latin1')).toBe('something else');
  expect(await readdir(folder)).toEqual(['secret']);
});

test('of many who create at once one succeeds, and its text is there whole', async () => {
  const texts = Array.from({ length: 8 }, (_, n) => `${n}`.repeat(1_000));
  const outcomes = await Promise.allSettled(texts.map((text) => SecretFile.create(path, text)));
  const created = outcomes.flatMap(({ status }, n) => (status === 'fulfilled' ? [texts[n]] : []));
  expect([await readFile(path, 'latin1')]).toEqual(created);
  expect(await readdir(folder)).toEqual(['secret']);
});

test('a claimed file is empty and of its owner alone until it is written', async () => {
  const file = await SecretFile.claim(path);
  expect((await stat(path)).size).toBe(0);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await file.write('text');
  expect(await readFile(path, 'latin1')).toBe('text');
});

test('a discarded file is gone, and its name can be claimed again', async () => {
  await (await SecretFile.claim(path)).discard();
  expect(await readdir(folder)).toEqual([]);
  await (await SecretFile.claim(path)).discard();
});

test('a folder that does not exist is the error of Node', async () => {
  const nowhere = join(folder, 'absent', 'secret');
  await expect(SecretFile.create(nowhere, 'text')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(SecretFile.claim(nowhere)).rejects.toMatchObject({ code: 'ENOENT' });
});
