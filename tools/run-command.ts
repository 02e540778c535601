/** Runs one command to its end for the tools beside this file, on the workspace's own Node, and fails with what it said. */
import { spawnSync } from 'node:child_process';
import { delimiter, dirname, join } from 'node:path';

/** The root of the workspace. */
export const ROOT: string = dirname(import.meta.dirname);

/** More than any of these commands says; past it the command is stopped. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** @throws with the command's output when it does not end with 0. */
export function run(folder: string, command: string, args: readonly string[]): string {
  const { status, signal, error, stdout, stderr } = spawnSync(command, args, {
    cwd: folder,
    env: {
      ...process.env,
      PATH: [join(ROOT, 'node_modules/.bin'), process.env['PATH']].join(delimiter),
      NO_COLOR: '1',
      FORCE_COLOR: undefined,
    },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: OUTPUT_BYTES_MAX,
  });
  if (error === undefined && status === 0) return stdout;
  const how = error?.message ?? (signal === null ? `ended with ${status}` : `was ended by ${signal}`);
  throw new Error(`\`${[command, ...args].join(' ')}\` ${how}\n${stdout}${stderr}`);
}
