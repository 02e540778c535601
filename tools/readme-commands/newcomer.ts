/**
 * A newcomer's machine, as far as one process can be one: a clean clone in a temporary folder, the environment without
 * what npm or our settings put there, a terminal that serves and a terminal that calls.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT } from '../run-command.ts';

/** As the README prints it. */
export const SERVICE_PORT = 8787;
const READY_URL = `http://localhost:${SERVICE_PORT}/readyz`;

/** A first `npm ci` on a slow line takes a few minutes. */
const START_SECONDS_MAX = 300;
/** A graceful stop finishes what it has begun; this is far more than it takes. */
const STOP_SECONDS_MAX = 20;
const POLL_MS = 100;
/** Enough of a log to see why; the rest is dropped. */
const TAIL_CHARACTERS = 4_000;

export const BASH: readonly string[] = ['--noprofile', '--norc', '-euo', 'pipefail'];

/** @param fromWorktree takes the files as they lie here, for trying out what is not committed. */
export function clone(fromWorktree: boolean): string {
  const folder = join(mkdtempSync(join(tmpdir(), 'pantheon-auth-readme-')), 'pantheon-auth');
  const git = (...args: readonly string[]): string => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' });
  if (!fromWorktree) {
    git('clone', '--quiet', ROOT, folder);
    return folder;
  }
  const paths = git('ls-files', '-z', '--cached', '--others', '--exclude-standard', '--deduplicate');
  const deleted = new Set(git('ls-files', '-z', '--deleted').split('\0'));
  for (const path of paths.split('\0').filter((name) => name !== '' && !deleted.has(name))) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(ROOT, path), join(folder, path));
  }
  return folder;
}

export function removeClone(folder: string): void {
  rmSync(dirname(folder), { recursive: true, force: true });
}

/** npm puts the workspace's own Node first on the PATH and tells its children where they are; a newcomer has neither. */
export function newcomerEnvironment(): NodeJS.ProcessEnv {
  const foreign =
    /^(PANTHEON_AUTH_|npm_(lifecycle|package|command|execpath|node_execpath|config_local_prefix)|INIT_CWD$|NODE$|NODE_OPTIONS$|NODE_PATH$|NODE_V8_COVERAGE$|VITEST)/;
  const kept = Object.entries(process.env).filter(([name]) => !foreign.test(name));
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  return {
    ...Object.fromEntries(kept),
    PATH: folders.filter((folder) => !/node_modules|node-gyp-bin/.test(folder)).join(delimiter),
  };
}

/** @throws when something else answers there: its answers would be taken for ours. */
export async function requireFreePort(): Promise<void> {
  for (const host of ['127.0.0.1', '::1']) {
    const probe = createServer();
    const failure = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
      probe.once('error', resolve);
      probe.listen(SERVICE_PORT, host, () => resolve(null));
    });
    if (failure === null) await new Promise((resolve) => probe.close(resolve));
    else if (failure.code === 'EADDRINUSE') {
      throw new Error(`port ${SERVICE_PORT}, which the README uses, is taken by another program: stop it first`);
    }
  }
}

/** The first terminal: what runs in it until it is stopped as with Ctrl-C. */
export class ServingTerminal {
  readonly #child: ChildProcess;
  readonly #ended: Promise<string>;
  #output = '';

  private constructor(folder: string, commands: string) {
    // A group of its own, so that Ctrl-C reaches npm and the service and not us.
    this.#child = spawn('bash', [...BASH, '-c', commands], {
      cwd: folder,
      env: newcomerEnvironment(),
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-TAIL_CHARACTERS);
      });
    }
    this.#ended = once(this.#child, 'exit').then(([code, signal]) => String(code ?? signal));
  }

  /** Resolves when the service says that it is ready. */
  static async start(folder: string, commands: string): Promise<ServingTerminal> {
    await requireFreePort();
    const terminal = new ServingTerminal(folder, commands);
    try {
      await terminal.#ready();
    } catch (error) {
      await terminal.stop();
      throw error;
    }
    return terminal;
  }

  async #ready(): Promise<void> {
    const polls = (START_SECONDS_MAX * 1_000) / POLL_MS;
    for (let poll = 0; poll < polls; poll += 1) {
      const ended = await Promise.race([this.#ended, sleep(POLL_MS, null)]);
      if (ended !== null) throw new Error(`the service ended with ${ended} before it was ready\n${this.#output}`);
      const status = await fetch(READY_URL).then(
        (response) => response.status,
        () => null,
      );
      if (status === 200) return;
    }
    throw new Error(`${READY_URL} did not answer 200 in ${START_SECONDS_MAX} s\n${this.#output}`);
  }

  /** @throws when the service does not stop on Ctrl-C and had to be killed. */
  async stop(): Promise<void> {
    const group = this.#child.pid;
    if (group === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    process.kill(-group, 'SIGINT');
    const ended = await Promise.race([this.#ended, sleep(STOP_SECONDS_MAX * 1_000, null, { ref: false })]);
    if (ended !== null) return requireFreePort();
    process.kill(-group, 'SIGKILL');
    throw new Error(`the service did not stop within ${STOP_SECONDS_MAX} s of Ctrl-C\n${this.#output}`);
  }
}

/** The second terminal: one shell for all blocks, so that what one block sets the next one has. */
export class CallingTerminal {
  readonly #shell: ChildProcess;
  #output = '';
  #heard: () => void = () => {};

  constructor(folder: string) {
    this.#shell = spawn('bash', [...BASH], {
      cwd: folder,
      env: newcomerEnvironment(),
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    for (const stream of [this.#shell.stdout, this.#shell.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
        this.#heard();
      });
    }
    this.#shell.on('exit', () => this.#heard());
  }

  /** Answers with what the block printed. @throws when a command of it fails. */
  async run(commands: string): Promise<string> {
    const done = `block-done-${crypto.randomUUID()}`;
    this.#output = '';
    // The block reads nothing, or it would read the commands that follow it.
    this.#shell.stdin?.write(`{\n${commands}\n} </dev/null\necho ${done}\n`);
    while (!this.#output.includes(done)) {
      if (this.#shell.exitCode !== null) throw new Error(`ended with ${this.#shell.exitCode}\n${this.#output}`);
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
    return this.#output.replace(`${done}\n`, '');
  }

  close(): void {
    this.#shell.stdin?.end();
  }
}
