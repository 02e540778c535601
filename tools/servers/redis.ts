/**
 * Private Redis (or Valkey) servers for tests: alone, as a replica, or as the node of a cluster (`redis-cluster.ts`), in a
 * temporary folder, on a free port of the loopback address, owned by this process.
 */
import { join } from 'node:path';
import { createClient } from 'redis';
import { obtainRedis } from './binaries.ts';
import { LOOPBACK } from './free-port.ts';
import { newServerFolder, removeServerFolder } from './run-folder.ts';
import { type ServerPlan, ServerProcess, startOnPort, until } from './server-process.ts';

export interface RedisOptions {
  /** A free one when absent. */
  readonly port?: number;
  /** Settings of redis.conf, over `TEST_SETTINGS`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** `4mb`; unlimited when absent. What happens at the limit is the setting `maxmemory-policy`. */
  readonly maxmemory?: string;
  /** Makes this a replica, which holds what the other holds when the start resolves. */
  readonly replicaOf?: RedisServer;
  /** More command line. */
  readonly args?: readonly string[];
}

export interface RedisServer extends AsyncDisposable {
  /** The same after a restart. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** @throws when the server does not run. */
  readonly pid: number;
  readonly running: boolean;
  readonly logFile: string;
  stop(): Promise<void>;
  /** SIGKILL: with the settings as they are, everything in it is lost. */
  kill(): Promise<void>;
  /** Starts it again on the same port; stops it first when it runs. */
  restart(): Promise<void>;
  /** SIGSTOP: connections stay open, nothing answers. */
  pause(): Promise<void>;
  resume(): void;
  /** Makes a replica a primary, also after a restart. */
  promote(): Promise<void>;
  /** One command over a connection of its own. */
  command(...args: readonly string[]): Promise<unknown>;
}

/** Nothing is written to disk. */
const TEST_SETTINGS: Readonly<Record<string, string>> = {
  save: '',
  appendonly: 'no',
  // Room for a database per test file: see `scratch.ts`.
  databases: '1024',
  // Replicas start at once instead of waiting 5 s for others to come.
  'repl-diskless-sync-delay': '0',
};

const CONNECT_MS_MAX = 5_000;
const SYNC_MS_MAX = 20_000;

/** Starts a server; it accepts connections when this resolves. @throws when there is no Redis, or it does not start. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const command = await obtainRedis();
  const folder = newServerFolder('redis');
  try {
    const settings = {
      ...TEST_SETTINGS,
      ...(options.maxmemory === undefined ? {} : { maxmemory: options.maxmemory }),
      ...options.settings,
    };
    const plan = (port: number): ServerPlan => ({
      name: `Redis on port ${port}`,
      command,
      args: [
        ...settingArguments({ ...settings, bind: LOOPBACK, port: String(port), dir: folder }),
        ...(options.args ?? []),
      ],
      folder,
      logFile: join(folder, 'log'),
      ready: /Ready to accept connections/i,
      user: null,
      stopSignal: 'SIGTERM',
      endSignal: 'SIGKILL',
    });
    const replica = (port: number): ServerPlan => asReplica(plan(port), options.replicaOf);
    const { port, process } = await startOnPort(options.port ?? null, replica);
    const server = new OwnRedis(plan(port), replica(port), port, process, folder);
    if (options.replicaOf !== undefined) await inSync(server);
    return server;
  } catch (error) {
    removeServerFolder(folder);
    throw error;
  }
}

/** One command over a connection of its own, without a second try. */
export async function redisCommand(url: string, args: readonly string[]): Promise<unknown> {
  return await withRedis(url, async (command) => await command(...args));
}

/** Runs `work` over one connection. Replies are those of RESP 2: plain lists and strings. */
export async function withRedis<T>(
  url: string,
  work: (command: (...args: readonly string[]) => Promise<unknown>) => Promise<T>,
): Promise<T> {
  const client = createClient({ url, RESP: 2, socket: { reconnectStrategy: false, connectTimeout: CONNECT_MS_MAX } });
  client.on('error', () => undefined); // The command under way is rejected with it.
  await client.connect();
  try {
    return await work(async (...args) => await client.sendCommand([...args]));
  } finally {
    client.destroy();
  }
}

/** Resolves when a replica holds what its primary holds. */
export async function inSync(server: RedisServer): Promise<void> {
  const linked = async (): Promise<boolean> =>
    String(await server.command('INFO', 'replication')).includes('master_link_status:up');
  if (!(await until(linked, SYNC_MS_MAX))) throw new Error(`Redis on port ${server.port} does not follow its primary`);
}

class OwnRedis implements RedisServer {
  readonly host: string = LOOPBACK;
  readonly port: number;
  readonly #primaryPlan: ServerPlan;
  readonly #folder: string;
  #plan: ServerPlan;
  #process: ServerProcess;

  constructor(primary: ServerPlan, plan: ServerPlan, port: number, process: ServerProcess, folder: string) {
    this.#primaryPlan = primary;
    this.#plan = plan;
    this.port = port;
    this.#process = process;
    this.#folder = folder;
  }

  get url(): string {
    return `redis://${this.host}:${this.port}`;
  }

  get pid(): number {
    return this.#process.pid;
  }

  get running(): boolean {
    return this.#process.running;
  }

  get logFile(): string {
    return this.#plan.logFile;
  }

  async stop(): Promise<void> {
    await this.#process.stop();
  }

  async kill(): Promise<void> {
    await this.#process.kill();
  }

  async restart(): Promise<void> {
    await this.#process.stop();
    this.#process = await ServerProcess.start(this.#plan);
  }

  async pause(): Promise<void> {
    await this.#process.pause();
  }

  resume(): void {
    this.#process.resume();
  }

  async promote(): Promise<void> {
    await this.command('REPLICAOF', 'NO', 'ONE');
    this.#plan = this.#primaryPlan;
  }

  async command(...args: readonly string[]): Promise<unknown> {
    return await redisCommand(this.url, args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.kill();
    removeServerFolder(this.#folder);
  }
}

function asReplica(plan: ServerPlan, primary: RedisServer | undefined): ServerPlan {
  if (primary === undefined) return plan;
  return { ...plan, args: [...plan.args, '--replicaof', primary.host, String(primary.port)] };
}

function settingArguments(settings: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}
