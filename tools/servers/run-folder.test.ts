/** No server outlives the process that started it, however that process ends. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { isRunning } from './process-tree.ts';
import { describeWithOwnServers } from './scratch.ts';
import { until } from './server-process.ts';

const PATIENCE_MS = 20_000;

/** Starts both servers, pauses one, and says what it has. It never stops them. */
const OWNER = `
import { startPostgres } from '${join(import.meta.dirname, 'postgres.ts')}';
import { descendantsOf } from '${join(import.meta.dirname, 'process-tree.ts')}';
import { startRedis } from '${join(import.meta.dirname, 'redis.ts')}';
const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
const pids = [postgres.pid, redis.pid, ...descendantsOf(postgres.pid)];
await postgres.pause();
console.log(JSON.stringify({ pids, folder: postgres.dataDir }));
if (process.argv[1] === 'stay') setInterval(() => undefined, 1_000);
`;

interface Owned {
  readonly pids: readonly number[];
  readonly folder: string;
}

async function own(
  ...args: readonly string[]
): Promise<{ readonly owned: Owned; readonly end: (by: NodeJS.Signals) => void }> {
  const owner = spawn(process.execPath, ['--input-type=module', '--eval', OWNER, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface(owner.stdout)) {
    return { owned: JSON.parse(line) as Owned, end: (by) => owner.kill(by) };
  }
  throw new Error('the owner said nothing');
}

describeWithOwnServers('servers that nobody stopped', () => {
  test.each(['SIGKILL', 'nothing but its last line'] as const)(
    'end although their owner, ended by %s, did not stop them',
    async (how) => {
      const { owned, end } = await own(...(how === 'SIGKILL' ? ['stay'] : []));
      if (how === 'SIGKILL') {
        expect(owned.pids.every(isRunning)).toBe(true);
        end(how);
      }
      expect(await until(() => !owned.pids.some(isRunning), PATIENCE_MS)).toBe(true);
      expect(await until(() => !existsSync(dirname(dirname(owned.folder))), PATIENCE_MS)).toBe(true);
    },
  );
});
