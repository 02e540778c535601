/**
 * One running server process that this process owns: started, awaited, stopped, killed, paused and resumed. Knows nothing
 * about what it serves; `postgres.ts` and `redis.ts` say that in a plan.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { descendantsOf, isRunning, readProcess } from './process-tree.ts';
import { disownProcess, ownProcess } from './run-folder.ts';

export interface ServerPlan {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly folder: string;
  /** Its output goes to a file: a pipe would stop the server when this process is too busy to read. */
  readonly logFile: string;
  /** What the log says once connections are accepted. Asking the port could reach another server. */
  readonly ready: RegExp;
  /** Who runs it, when that is not who runs the tests. */
  readonly user: SystemUser | null;
  /** Ends it in order. */
  readonly stopSignal: NodeJS.Signals;
  /** Ends it at once, with its children and what it holds of the system. */
  readonly endSignal: NodeJS.Signals;
}

export interface SystemUser {
  readonly uid: number;
  readonly gid: number;
}

/** A busy machine starts or ends a server slowly; past this it hangs. */
const START_MS_MAX = 30_000;
const STOP_MS_MAX = 10_000;
const STATE_MS_MAX = 5_000;
const POLL_MS = 5;
/** Enough to see why a server did not start. */
const LOG_TAIL_CHARACTERS = 4_000;
/** Two processes may choose one port in the same moment; five times in a row they do not. */
const PORT_TRIES_MAX = 5;

/** The server did not come up. `log` is the end of what it said. */
class StartError extends Error {
  readonly log: string;

  constructor(plan: ServerPlan, why: string, log: string) {
    super(`${plan.name} did not start: ${why}\n${log.slice(-LOG_TAIL_CHARACTERS)}`);
    this.log = log;
  }
}

/** Starts on `port`, or on a free one when it is null. */
export async function startOnPort(
  port: number | null,
  plan: (port: number) => ServerPlan,
): Promise<{ readonly port: number; readonly process: ServerProcess }> {
  for (let tries = 1; ; tries += 1) {
    const chosen = port ?? (await freePort());
    try {
      return { port: chosen, process: await ServerProcess.start(plan(chosen)) };
    } catch (error) {
      const taken = error instanceof StartError && /address already in use/i.test(error.log);
      if (!taken || port !== null || tries === PORT_TRIES_MAX) throw error;
    }
  }
}

export class ServerProcess {
  readonly #plan: ServerPlan;
  readonly #child: ChildProcess;
  readonly #pid: number;
  readonly #ended: Promise<void>;
  #paused: readonly number[] = [];

  private constructor(plan: ServerPlan, child: ChildProcess, pid: number) {
    this.#plan = plan;
    this.#child = child;
    this.#pid = pid;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    child.once('exit', () => {
      disownProcess(pid);
      resolve();
    });
    ownProcess(pid, plan.endSignal, []);
    child.unref(); // A test that forgets its server still ends; the watchdog ends the server.
  }

  /** Resolves when the server accepts connections. @throws with the end of its log when it does not come to that. */
  static async start(plan: ServerPlan): Promise<ServerProcess> {
    const logStart = existsSync(plan.logFile) ? statSync(plan.logFile).size : 0;
    const log = openSync(plan.logFile, 'a');
    const child = spawn(plan.command, plan.args, {
      cwd: plan.folder,
      // Not this process's variables: PGDATA, PGPORT and their kind would change the server.
      env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', TZ: 'UTC' },
      detached: true, // Ctrl-C goes to the tests, which then end the server in order.
      stdio: ['ignore', log, log],
      ...plan.user,
    });
    closeSync(log);
    if (child.pid === undefined) {
      const { promise, reject } = Promise.withResolvers<never>();
      child.once('error', reject);
      return promise;
    }
    const started = new ServerProcess(plan, child, child.pid);
    const said = (): string => readFileSync(plan.logFile).subarray(logStart).toString();
    const inTime = await until(() => !started.running || plan.ready.test(said()), START_MS_MAX);
    if (!started.running) throw new StartError(plan, `it ended with ${child.exitCode ?? child.signalCode}`, said());
    if (!inTime) {
      await started.kill();
      throw new StartError(plan, `it was not ready within ${START_MS_MAX} ms`, said());
    }
    return started;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** @throws when it does not run. */
  get pid(): number {
    if (!this.running) throw new Error(`${this.#plan.name} is not running`);
    return this.#pid;
  }

  /** In order; at once when that takes too long. */
  async stop(): Promise<void> {
    if (await this.#endBy(this.#plan.stopSignal)) return;
    if (!(await this.#endBy(this.#plan.endSignal))) await this.kill();
  }

  /** SIGKILL for it and all below it, as when the machine loses power. Resolves when none of them runs any more. */
  async kill(): Promise<void> {
    if (!this.running) return;
    this.#child.ref();
    const all = [this.#pid, ...(await this.#freeze())];
    for (const pid of all) signal(pid, 'SIGKILL');
    await this.#ended;
    this.#paused = [];
    if (!(await until(() => !all.some(isRunning), STATE_MS_MAX))) {
      throw new Error(`${this.#plan.name}: processes ${all.filter(isRunning).join(', ')} outlive SIGKILL`);
    }
  }

  /** SIGSTOP for it and all below it: connections stay open, nothing answers. Resolves when all of them stand still. */
  async pause(): Promise<void> {
    const pid = this.pid;
    const below = await this.#freeze();
    for (const child of below) signal(child, 'SIGSTOP');
    this.#paused = [...below, pid];
    ownProcess(pid, this.#plan.endSignal, below);
    const still = await until(() => this.#paused.every(isStopped), STATE_MS_MAX);
    if (!still) throw new Error(`${this.#plan.name} does not stand still`);
  }

  /** The reverse of `pause`; without effect when it was not paused. */
  resume(): void {
    if (this.#paused.length === 0) return;
    for (const pid of this.#paused) signal(pid, 'SIGCONT');
    this.#paused = [];
    if (this.running) ownProcess(this.#pid, this.#plan.endSignal, []);
  }

  /** Stops the first process, so that it starts no other, and returns those below it. */
  async #freeze(): Promise<readonly number[]> {
    signal(this.#pid, 'SIGSTOP');
    await until(() => isStopped(this.#pid), STATE_MS_MAX);
    return descendantsOf(this.#pid);
  }

  /** @returns whether it ended in time. */
  async #endBy(by: NodeJS.Signals): Promise<boolean> {
    if (!this.running) return true;
    this.#child.ref();
    this.resume();
    signal(this.#pid, by);
    const late = new AbortController();
    const inTime = await Promise.race([
      this.#ended.then(() => true),
      sleep(STOP_MS_MAX, false, { signal: late.signal }).catch(() => false),
    ]);
    late.abort();
    return inTime;
  }
}

/** Whether it stands still, or has gone. */
function isStopped(pid: number): boolean {
  return /^[TtZ]?$/.test(readProcess(pid)?.state ?? '');
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error; // It has just ended.
  }
}

/** Asks again and again. @returns whether it came true in time. */
export async function until(holds: () => boolean | Promise<boolean>, timeoutMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadlineMs) return false;
    await sleep(POLL_MS);
  }
  return true;
}
