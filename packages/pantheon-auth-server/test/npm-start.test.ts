/** The service as people and orchestrators start it, through npm: a signal that npm gets is one that the service gets. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const STARTED_MS = 90_000;

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
});

interface Started {
  readonly url: string;
  readonly output: () => string;
  /** The process ids of npm and all that it started. */
  readonly family: () => readonly number[] | null;
  /** To npm alone. */
  readonly tell: (signal: NodeJS.Signals) => void;
  readonly exited: Promise<readonly unknown[]>;
}

async function started(args: readonly string[]): Promise<Started> {
  const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-npm-'));
  closers.push(() => rmSync(folder, { recursive: true, force: true }));
  const settings = {
    PANTHEON_AUTH_DATA_DIR: join(folder, 'data'),
    PANTHEON_AUTH_PORT: '0',
    PANTHEON_AUTH_PUBLIC_URL: 'http://localhost:8787',
  };
  // In a process group of its own, so that nothing but the test gives it a signal.
  const npm = spawn('npm', args, {
    cwd: repository,
    env: { ...process.env, ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const exited = once(npm, 'exit');
  closers.push(() => {
    try {
      process.kill(-(npm.pid ?? 0), 'SIGKILL');
    } catch {
      // As it should be: nothing of it is left.
    }
  });
  let output = '';
  for (const stream of [npm.stdout, npm.stderr])
    stream.on('data', (bytes) => {
      output += String(bytes);
    });
  await expect.poll(() => output, { timeout: STARTED_MS, interval: 50 }).toMatch(/serves on http\S+/);
  const url = /serves on (http\S+)/.exec(output)?.[1] ?? '';
  return {
    url,
    output: () => output,
    family: () => processesOf(folder),
    tell: (signal) => void process.kill(npm.pid ?? 0, signal),
    exited,
  };
}

/** Processes with this folder among their settings, as Linux tells them; elsewhere nobody knows. */
function processesOf(folder: string): readonly number[] | null {
  if (process.platform !== 'linux') return null;
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return all.map(Number).filter((pid) => {
    try {
      return pid !== process.pid && readFileSync(`/proc/${pid}/environ`, 'latin1').includes(folder);
    } catch {
      return false;
    }
  });
}

test.each([[['start']], [['run', '--silent', 'pantheon-auth', '--', 'serve']]])(
  'npm %j on a signal stops the service in order, and leaves nothing behind',
  async (args) => {
    const { url, output, family, tell, exited } = await started(args);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect(family()?.length ?? 2).toBeGreaterThanOrEqual(2);
    tell('SIGTERM');
    const [code] = await exited;
    expect([code, output().includes('"msg":"stopped"')]).toEqual([0, true]);
    expect(family() ?? []).toEqual([]);
    await expect(fetch(`${url}/readyz`)).rejects.toThrow();
  },
  2 * STARTED_MS,
);
