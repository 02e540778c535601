import { chmodSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { scratchFolder } from '../../testing/scratch-database.ts';
import { prepareFile } from './sqlite-file.ts';

/** What the file system does instead, once. */
const instead = vi.hoisted(() => ({ chmod: null as (() => void) | null, open: null as (() => void) | null }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return {
    ...fs,
    chmodSync: (...args: Parameters<typeof fs.chmodSync>) => (instead.chmod ?? (() => fs.chmodSync(...args)))(),
    openSync: (...args: Parameters<typeof fs.openSync>) => {
      instead.open?.();
      return fs.openSync(...args);
    },
  };
});

const modeOf = (path: string): number => statSync(path).mode & 0o777;
const ignore = (): void => undefined;

test.each([0o000, 0o022, 0o077, 0o777])('a new file has mode 0600 under umask %o', (mask) => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  const before = process.umask(mask);
  try {
    prepareFile(path, ignore);
  } finally {
    process.umask(before);
  }
  expect(modeOf(path)).toBe(0o600);
});

test('a file that others can read gets mode 0600, and a warning is logged', () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  for (const name of [path, `${path}-wal`]) {
    writeFileSync(name, '');
    chmodSync(name, 0o644);
  }
  const warnings: string[] = [];
  prepareFile(path, (warning) => warnings.push(warning));
  expect([modeOf(path), modeOf(`${path}-wal`)]).toEqual([0o600, 0o600]);
  expect(warnings).toEqual([expect.stringContaining(path), expect.stringContaining(`${path}-wal`)]);
  prepareFile(path, (warning) => warnings.push(warning));
  expect(warnings).toHaveLength(2);
});

test.each(['', '-wal', '-shm', '-journal'])('a symbolic link in place of the file%s is refused', (companion) => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  const target = join(folder.path, 'target');
  writeFileSync(target, 'mine', { mode: 0o644 });
  symlinkSync(target, path + companion);
  expect(() => prepareFile(path, ignore)).toThrow(/store_unusable: .*symbolic link/);
  expect(modeOf(target)).toBe(0o644);
});

test('a dangling symbolic link is refused and its target is not created', () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  symlinkSync(join(folder.path, 'nowhere'), path);
  expect(() => prepareFile(path, ignore)).toThrow(/symbolic link/);
  expect(() => statSync(join(folder.path, 'nowhere'))).toThrow('ENOENT');
});

test('a folder in place of the file is refused', () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  mkdirSync(path);
  expect(() => prepareFile(path, ignore)).toThrow(/store_unusable: .*a\.db: is a folder/);
});

test('anything but a file is refused', async () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'socket');
  const server = createServer().listen(path);
  await new Promise((done) => server.once('listening', done));
  try {
    expect(() => prepareFile(path, ignore)).toThrow(/not a plain file/);
  } finally {
    await new Promise((done) => server.close(done));
  }
});

test('the error names a missing folder, and a file in place of a folder', () => {
  using folder = scratchFolder();
  expect(() => prepareFile(join(folder.path, 'none', 'a.db'), ignore)).toThrow(/its folder does not exist/);
  writeFileSync(join(folder.path, 'file'), '', { mode: 0o600 });
  expect(() => prepareFile(join(folder.path, 'file', 'a.db'), ignore)).toThrow(/store_unusable/);
});

test('a name that the file system refuses is a clear error', () => {
  using folder = scratchFolder();
  expect(() => prepareFile(join(folder.path, 'x'.repeat(300)), ignore)).toThrow(/store_unusable/);
});

test('a file of another user that others can read is refused', () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  writeFileSync(path, '');
  chmodSync(path, 0o644);
  instead.chmod = () => {
    throw Object.assign(new Error('EPERM'), { code: 'EPERM' });
  };
  try {
    expect(() => prepareFile(path, ignore)).toThrow(/store_unusable: .*belongs to someone else/);
  } finally {
    instead.chmod = null;
  }
});

test('a file that another process creates at the same moment is checked like any other', () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'a.db');
  instead.open = () => {
    instead.open = null;
    symlinkSync('elsewhere', path);
  };
  expect(() => prepareFile(path, ignore)).toThrow(/symbolic link/);
});
