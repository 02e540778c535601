/** The examples do what they print, each as the program that a reader would start. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');
const EXAMPLES = globSync('examples/*.ts', { cwd: ROOT }).filter((path) => !path.endsWith('demo.ts'));

interface Running {
  readonly child: ChildProcess;
  /** All that it printed. */
  readonly printed: string;
  readonly url: string;
  readonly keyFile: string;
}

async function start(example: string): Promise<Running> {
  const child = spawn(process.execPath, ['--conditions=source', example, '0'], { cwd: ROOT });
  onTestFinished(() => void child.kill('SIGKILL'));
  let printed = '';
  child.stderr.on('data', (text: Buffer) => {
    printed += text.toString();
  });
  for await (const text of child.stdout) {
    printed += String(text);
    const [, url] = /listening on (\S+);/.exec(printed) ?? [];
    const [, keyFile] = /-H @(\S+)/.exec(printed) ?? [];
    if (url !== undefined && keyFile !== undefined) return { child, printed, url, keyFile };
  }
  throw new Error(`${example} stopped: ${printed}`);
}

test('there is one example for each adapter', () => {
  expect(EXAMPLES.map((path) => path.slice('examples/'.length)).sort()).toEqual([
    'express.ts',
    'fastify.ts',
    'fetch.ts',
    'hono.ts',
  ]);
});

describe.each(EXAMPLES)('%s', (example) => {
  test('fits a screen', () => {
    expect(readFileSync(join(ROOT, example), 'utf8').split('\n').length).toBeLessThanOrEqual(50);
  });

  test('answers as its comments say, and leaves nothing behind', async () => {
    const { child, printed, url, keyFile } = await start(example);
    const key = readFileSync(keyFile, 'utf8').replace('X-API-Key: ', '').trim();
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(printed).not.toContain(key.slice(25));

    const ask = async (path: string, init: RequestInit = {}) => {
      const answer = await fetch(url + path, init);
      return [answer.status, await answer.json()];
    };
    const headers = { 'X-API-Key': key };
    expect(await ask('/health')).toEqual([200, { ok: true }]);
    expect(await ask('/docs')).toEqual([401, expect.objectContaining({ code: 'missing_credential' })]);
    expect(await ask('/docs', { headers })).toEqual([200, { docs: ['first'], for: 'demo' }]);
    expect(await ask('/docs', { headers: { Authorization: `Bearer ${key}` } })).toEqual([200, expect.anything()]);
    expect(await ask('/docs', { headers, method: 'POST' })).toEqual([
      403,
      expect.objectContaining({ code: 'insufficient_permissions', detail: 'The permission docs:write is missing.' }),
    ]);

    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(existsSync(dirname(keyFile))).toBe(false);
  });
});
