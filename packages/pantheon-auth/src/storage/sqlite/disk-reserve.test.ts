import { existsSync, mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { scratchFolder } from '../../testing/scratch-database.ts';
import { TestClock } from '../../testing/test-clock.ts';
import { DiskReserve } from './disk-reserve.ts';

const BYTES = 300_000;
const PATIENCE = { timeout: 20_000, interval: 20 } as const;

function open(folder: string) {
  const path = join(folder, 'a.db-reserve');
  const clock = new TestClock();
  const warnings: string[] = [];
  const reserve = new DiskReserve({ path, clock, bytes: BYTES, onWarning: (text) => void warnings.push(text) });
  const size = (): number => (existsSync(path) ? statSync(path).size : 0);
  const whole = (): Promise<void> => vi.waitFor(() => expect(size()).toBe(BYTES), PATIENCE);
  return { path, clock, warnings, reserve, size, whole };
}

test('the space is reserved from the start, with mode 0600, and is released once', async () => {
  using folder = scratchFolder();
  const { reserve, path, size, whole, clock } = open(folder.path);
  reserve.start();
  expect(reserve.isSpent()).toBe(false);
  await whole();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(reserve.release()).toBe(true);
  expect([size(), reserve.isSpent(), reserve.release()]).toEqual([0, true, false]);
  // There is room, so it is taken again by itself.
  await whole();
  await vi.waitFor(() => {
    clock.advance(1_000);
    expect(reserve.isSpent()).toBe(false);
  }, PATIENCE);
  await reserve.close();
});

test('a complete file is left as it is, and one of another size is corrected', async () => {
  using folder = scratchFolder();
  const { reserve, path, whole } = open(folder.path);
  for (const bytes of [1, BYTES + 5_000]) {
    writeFileSync(path, Buffer.alloc(bytes, 7));
    const another = open(folder.path);
    another.reserve.start();
    await whole();
    await another.reserve.close();
  }
  const { mtimeMs } = statSync(path);
  reserve.start();
  await reserve.close();
  expect(statSync(path).mtimeMs).toBe(mtimeMs);
});

test('space that another process adds while it starts is not taken for a release', async () => {
  using folder = scratchFolder();
  const { reserve, path, whole, clock } = open(folder.path);
  reserve.start();
  await whole();
  await vi.waitFor(() => expect(reserve.isSpent()).toBe(false), PATIENCE);
  writeFileSync(path, Buffer.alloc(BYTES + 5_000));
  clock.advance(1_000);
  expect(reserve.isSpent()).toBe(false);
  truncateSync(path, BYTES - 1);
  clock.advance(1_000);
  expect(reserve.isSpent()).toBe(true);
  await reserve.close();
});

test('a release by another process is noticed within a tenth of a second', async () => {
  using folder = scratchFolder();
  const { reserve, path, whole } = open(folder.path);
  reserve.start();
  await whole();
  await reserve.close();
  const other = open(folder.path);
  other.reserve.start();
  expect(other.reserve.isSpent()).toBe(false);
  truncateSync(path, 0);
  expect(other.reserve.isSpent()).toBe(false);
  other.clock.advance(100);
  expect(other.reserve.isSpent()).toBe(true);
  await other.reserve.close();
});

test('if the space cannot be reserved, nothing is, and a warning is logged', async () => {
  using folder = scratchFolder();
  const { reserve, path, warnings } = open(folder.path);
  mkdirSync(path);
  reserve.start();
  await vi.waitFor(() => expect(warnings).toHaveLength(1), PATIENCE);
  expect(warnings[0]).toMatch(/cannot be written \(EISDIR\): on a full disk nothing can be revoked/);
  expect([reserve.isSpent(), reserve.release()]).toEqual([false, false]);
  await reserve.close();
  rmSync(path, { recursive: true });
});

test('with a size of zero there is no reserve', async () => {
  using folder = scratchFolder();
  const path = join(folder.path, 'none');
  const none = new DiskReserve({ path, clock: new TestClock(), bytes: 0, onWarning: () => {} });
  none.start();
  expect([none.isSpent(), none.release(), existsSync(path)]).toEqual([false, false, false]);
  await none.close();
});
