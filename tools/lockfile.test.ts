/** `npm ci` works from package-lock.json on every platform. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { completeLock, type Lock } from './lockfile/platform-packages.ts';

test('the lock has every platform package; if not, run `node tools/lockfile.ts`', () => {
  const lock = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8')) as Lock;
  expect(completeLock(lock).added).toEqual([]);
});

test('a missing platform package is added for its platform alone, and nothing else changes', () => {
  const tool = {
    version: '1.0.0',
    dev: true,
    license: 'MIT',
    optionalDependencies: { '@t/linux-x64-musl': '1.0.0', '@t/darwin-arm64': '1.0.0', '@t/win32-x64-msvc': '1.0.0' },
  };
  const here = { version: '1.0.0', integrity: 'sha512-x' };
  const packages = { 'node_modules/t': tool, 'node_modules/t/node_modules/@t/darwin-arm64': here };
  const { lock, added } = completeLock({ packages });
  expect(added).toEqual(['node_modules/@t/linux-x64-musl', 'node_modules/@t/win32-x64-msvc']);
  const common = { version: '1.0.0', cpu: ['x64'], dev: true, license: 'MIT', optional: true };
  expect(lock.packages).toEqual({
    ...packages,
    'node_modules/@t/linux-x64-musl': { ...common, os: ['linux'], libc: ['musl'] },
    'node_modules/@t/win32-x64-msvc': { ...common, os: ['win32'] },
  });
});

test('a package whose name does not show its platform is not added', () => {
  const packages = { 'node_modules/t': { optionalDependencies: { fsevents: '1.0.0' } } };
  expect(() => completeLock({ packages })).toThrow('fsevents');
});
