/** What the examples share and a real program has no need of: a folder that goes away, and a key to try them with. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PantheonAuth } from 'pantheon-auth';

/** A new data folder, gone when the process ends. */
export function demoFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-example-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Makes a key that may read and says how to use it. The key goes to a file of its owner's, never to the terminal. */
export async function printDemo(auth: PantheonAuth, folder: string, port: number): Promise<void> {
  // For curl, which reads headers from a file: every process of the machine can read the arguments of the others.
  const file = join(folder, 'demo.header');
  const { key } = await auth.keys.create({ userId: 'demo', name: 'demo', permissions: ['docs:read'] });
  writeFileSync(file, `X-API-Key: ${key}\n`, { mode: 0o600 });
  console.log(`listening on http://localhost:${port}; try

  curl -i http://localhost:${port}/docs                                    # 401: no key
  curl -i http://localhost:${port}/docs -H @${file}
  curl -i -X POST http://localhost:${port}/docs -H @${file}   # 403: it may only read
`);
}

/** Stops in order when it is asked to: what was counted is stored first. */
export function stopWith(stop: () => Promise<unknown>): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void stop().then(() => process.exit(0)));
}
