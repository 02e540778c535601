/**
 * Runs the commands of README.md as a newcomer would: verbatim, in a clean clone of HEAD, on the machine's own Node and
 * npm. Starts the service, makes the calls, stops it, starts it again and looks whether it still has its data.
 *
 * Each `sh` block of the README has a marker above it that readers do not see; `readme-commands/blocks.ts` lists them:
 *
 *     <!-- run: call, expect: "valid": true -->
 *     ```sh
 *     curl …
 *     ```
 *
 * `--without-tests` leaves out the blocks marked `test`, for CI, which runs the tests itself. `--worktree` takes the
 * files as they lie here instead of HEAD.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Block, readBlocks } from './readme-commands/blocks.ts';
import {
  BASH,
  CallingTerminal,
  clone,
  newcomerEnvironment,
  removeClone,
  ServingTerminal,
} from './readme-commands/newcomer.ts';

const { values: options } = parseArgs({
  options: { 'without-tests': { type: 'boolean', default: false }, worktree: { type: 'boolean', default: false } },
});

/** A curl that is refused still ends with 0; what it prints is a problem, and that has a status. */
const PROBLEM = /"status"\s*:\s*[45]\d\d\b|"error"\s*:\s*"/;

try {
  await inCleanClone(async (folder) => {
    const blocks = readBlocks(readFileSync(join(folder, 'README.md'), 'utf8'));
    await serveAndCall(folder, blocks);
    await runTogether(
      folder,
      blocks.filter(({ kind }) => kind === 'alone'),
    );
    if (options['without-tests']) return;
    for (const block of blocks.filter(({ kind }) => kind === 'test')) await inCleanClone((own) => runAlone(own, block));
  });
  console.log('every command of the README works as printed');
} catch (error) {
  // The message says it all; where in this file it was noticed helps nobody.
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

async function inCleanClone(work: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = clone(options.worktree);
  try {
    await work(folder);
  } finally {
    removeClone(folder);
  }
}

async function serveAndCall(folder: string, blocks: readonly Block[]): Promise<void> {
  const serve = blocks.filter(({ kind }) => kind === 'serve');
  const calls = blocks.filter(({ kind }) => kind === 'call' || kind === 'call again');
  const shell = new CallingTerminal(folder);
  try {
    for (const { commands } of serve) {
      await whileServing(folder, commands, () => callAll(shell, calls));
      const rootKey = readFileSync(join(folder, 'data/root.key'), 'utf8');
      const again = calls.filter(({ kind }) => kind === 'call again');
      // What is installed stays installed, so a second start is its last command alone.
      await whileServing(folder, 'npm start', () => callAll(shell, again));
      if (readFileSync(join(folder, 'data/root.key'), 'utf8') !== rootKey) {
        throw new Error('the second start made a new root key: it did not find its data');
      }
    }
  } finally {
    shell.close();
  }
}

/** Where the installation of the blocks before them is there already. */
async function runTogether(folder: string, blocks: readonly Block[]): Promise<void> {
  const shell = new CallingTerminal(folder);
  try {
    await callAll(shell, blocks);
  } finally {
    shell.close();
  }
}

async function whileServing(folder: string, commands: string, work: () => Promise<void>): Promise<void> {
  const service = await ServingTerminal.start(folder, commands);
  console.log(`serving: ${commands}`);
  try {
    await work();
  } finally {
    await service.stop();
  }
}

async function callAll(shell: CallingTerminal, calls: readonly Block[]): Promise<void> {
  for (const { commands, expected, line } of calls) {
    const output = await shell.run(commands).catch((error: unknown) => {
      throw new Error(`README.md:${line}: the block fails: ${error instanceof Error ? error.message : error}`);
    });
    if (PROBLEM.test(output)) throw new Error(`README.md:${line}: the service refuses\n${output}`);
    if (expected !== null && !withoutSpace(output).includes(withoutSpace(expected))) {
      throw new Error(`README.md:${line}: the answer does not contain ${expected}\n${output}`);
    }
    console.log(`README.md:${line}: as printed`);
  }
}

function withoutSpace(text: string): string {
  return text.replace(/\s+/g, '');
}

function runAlone(folder: string, { commands, line }: Block): void {
  const { status } = spawnSync('bash', [...BASH, '-c', commands], {
    cwd: folder,
    env: newcomerEnvironment(),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status !== 0) throw new Error(`README.md:${line}: the block ends with ${status}`);
  console.log(`README.md:${line}: as printed`);
}
