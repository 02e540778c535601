/**
 * Nodes of the service as real processes: started as `npm run pantheon-auth` starts one, killed, stopped and started
 * again. Where they keep their data is decided by whoever makes them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { disownProcess, ownProcess } from '../../tools/servers/run-folder.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MAIN = 'packages/pantheon-auth-server/src/cli/main.ts';
/** All nodes are one service to the outside. */
const PUBLIC_URL = 'http://localhost:8787';
/** A start takes 1 to 2 s; three at once on a busy machine several times that. */
const START_MAX_MS = 30_000;
/** Longer than the service takes to finish what is under way. */
const STOP_MAX_MS = 15_000;
const READY_LOOK_EVERY_MS = 40;
const READY_ANSWER_MAX_MS = 1_000;
/** More than all clients of a test ask at once. */
const SOCKETS_PER_NODE_MAX = 512;
const LOG_TAIL_CHARACTERS = 4_000;

export interface NodeOptions {
  readonly name: string;
  /** Settings besides the port: `PANTHEON_AUTH_…`. */
  readonly environment: Readonly<Record<string, string>>;
  /** A folder for its log and for compiled sources. */
  readonly scratch: string;
}

export class ServiceNode {
  readonly name: string;
  /** Connections are kept, as clients in front of a service keep them. */
  readonly agent: Agent = new Agent({ keepAlive: true, maxSockets: SOCKETS_PER_NODE_MAX, scheduling: 'lifo' });
  readonly #options: NodeOptions;
  readonly #logFile: string;
  #port = 0;
  #child: ChildProcess | null = null;

  constructor(options: NodeOptions) {
    this.name = options.name;
    this.#options = options;
    this.#logFile = `${options.scratch}/${options.name}.log`;
  }

  get port(): number {
    return this.#port;
  }

  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Starts the process and waits until it says that it is ready. A node that is started again keeps its port. */
  async start(): Promise<void> {
    await this.launch();
    await this.waitUntilReady();
  }

  /** Starts the process and waits for nothing. */
  async launch(): Promise<void> {
    if (this.isRunning) throw new Error(`${this.name} is running.`);
    if (this.#port === 0) this.#port = await freePort();
    const log = openSync(this.#logFile, 'a');
    this.#child = spawnService(['serve'], {
      environment: { ...this.#options.environment, PANTHEON_AUTH_PORT: String(this.#port) },
      scratch: this.#options.scratch,
      output: log,
    });
    closeSync(log);
  }

  async waitUntilReady(withinMs: number = START_MAX_MS): Promise<void> {
    const endsAtMs = performance.now() + withinMs;
    while (!(await this.isReady())) {
      if (!this.isRunning) throw new Error(`${this.name} ended while it started:\n${this.logTail()}`);
      if (performance.now() > endsAtMs) throw new Error(`${this.name} is not ready:\n${this.logTail()}`);
      await new Promise((resolve) => setTimeout(resolve, READY_LOOK_EVERY_MS));
    }
  }

  isReady(): Promise<boolean> {
    return new Promise((resolve) => {
      const options = { host: '127.0.0.1', port: this.#port, path: '/readyz', timeout: READY_ANSWER_MAX_MS };
      const asked = request(options, (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      });
      asked.on('timeout', () => asked.destroy());
      asked.on('error', () => resolve(false));
      asked.end();
    });
  }

  /** As the machine ends a process that used too much memory: nothing is finished, nothing is stored. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** As an operator stops it. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Everything in it stands still, as in a long collection of garbage, or on a machine that is moved. */
  freeze(): void {
    if (this.isRunning) this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    if (this.isRunning) this.#child?.kill('SIGCONT');
  }

  /** Resident memory in bytes. */
  memoryBytes(): number {
    const status = readFileSync(`/proc/${this.#child?.pid ?? 'self'}/status`, 'latin1');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1_024;
  }

  logTail(): string {
    return readFileSync(this.#logFile, 'utf8').slice(-LOG_TAIL_CHARACTERS);
  }

  async #end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child;
    this.agent.destroy();
    if (child === null || !this.isRunning) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    // A process that stands still does not hear that it should stop.
    if (signal === 'SIGTERM') child.kill('SIGCONT');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MAX_MS);
    await exited;
    clearTimeout(timer);
    this.#child = null;
  }
}

/** Runs one command of `pantheon-auth` to its end. @throws Error with what it wrote, unless it ended well. */
export async function runCommand(
  args: readonly string[],
  options: { readonly environment: Readonly<Record<string, string>>; readonly scratch: string },
): Promise<void> {
  const logFile = `${options.scratch}/command.log`;
  const log = openSync(logFile, 'a');
  const child = spawnService(args, { ...options, output: log });
  closeSync(log);
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}:\n${readFileSync(logFile, 'utf8')}`);
}

interface Spawned {
  readonly environment: Readonly<Record<string, string>>;
  readonly scratch: string;
  /** A file descriptor. */
  readonly output: number;
}

function spawnService(args: readonly string[], { environment, scratch, output }: Spawned): ChildProcess {
  const child = spawn(process.execPath, ['--conditions=source', MAIN, ...args], {
    cwd: ROOT,
    env: {
      PATH: process.env['PATH'],
      HOME: scratch,
      // Sources are compiled once, and not by every node and after every kill.
      NODE_COMPILE_CACHE: `${scratch}/compiled`,
      PANTHEON_AUTH_PUBLIC_URL: PUBLIC_URL,
      PANTHEON_AUTH_LOG_LEVEL: 'warn',
      PANTHEON_AUTH_DOCS: 'off',
      ...environment,
    },
    stdio: ['ignore', output, output],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error('The service cannot be started.');
  // So that it ends with this process, however that ends.
  ownProcess(pid, 'SIGKILL', []);
  child.once('exit', () => disownProcess(pid));
  return child;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
