import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { LogDestination } from './log-destination.ts';

test('lines are written complete and in order, few or many', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-log-'));
  const path = join(folder, 'log');
  const log = new LogDestination(openSync(path, 'w'));
  const lines = Array.from({ length: 2_000 }, (_, n) => `{"line":${n},"text":"é"}\n`);
  for (const line of lines) log.write(line);
  while (readFileSync(path, 'utf8').length < lines.join('').length) await pause(10);
  expect(readFileSync(path, 'utf8')).toBe(lines.join(''));
  rmSync(folder, { recursive: true });
});

test.skipIf(process.platform !== 'linux')(
  'a full disk loses log lines, and nothing else fails (needs /dev/full)',
  async () => {
    const log = new LogDestination(openSync('/dev/full', 'w'));
    for (let n = 0; n < 1_000; n += 1) log.write(`line ${n} ${'x'.repeat(100)}\n`);
    await pause(20);
    expect(() => log.write('still here\n')).not.toThrow();
  },
);
