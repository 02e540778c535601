import { once } from 'node:events';
import { expect, test } from 'vitest';
import { SqliteWorkerFile } from './sqlite-worker-file.ts';

test('the file of each thread is there, and one of another name is not', () => {
  for (const name of ['sqlite-reader-worker', 'sqlite-checkpoint-worker', 'sqlite-inspection-worker'] as const)
    expect(new SqliteWorkerFile(name, 'test').exists(), name).toBe(true);
  expect(new SqliteWorkerFile('sqlite-absent-worker', 'test').exists()).toBe(false);
});

test('a thread is started with what it is given', async () => {
  const worker = new SqliteWorkerFile<{ path: string }>('sqlite-inspection-worker', 'test').start({
    path: '/absent/db',
  });
  const [answer] = (await once(worker, 'message')) as [unknown];
  expect(answer).toMatchObject({ failed: expect.stringContaining('unable to open') });
  await worker.terminate();
});
