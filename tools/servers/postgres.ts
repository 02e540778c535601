/**
 * Private PostgreSQL servers for tests: a primary or a streaming replica, in a temporary folder, on a free port of the loopback
 * address, owned by this process, so that a test may stop, kill, pause and promote them.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { Client } from 'pg';
import { obtainPostgres } from './binaries.ts';
import { LOOPBACK } from './free-port.ts';
import { copyPrimary, createData, postgresUser, releaseSharedMemory } from './postgres-data.ts';
import { newServerFolder, removeServerFolder } from './run-folder.ts';
import { type ServerPlan, ServerProcess, startOnPort } from './server-process.ts';

export interface PostgresOptions {
  /** A free one when absent. */
  readonly port?: number;
  /** Settings of postgresql.conf, over `TEST_SETTINGS`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Kept when the server is disposed of, and used as it is when it holds data. A temporary one when absent. */
  readonly dataDir?: string;
  /** Makes this a streaming replica of a running server. */
  readonly replicaOf?: PostgresServer;
}

export interface PostgresServer extends AsyncDisposable {
  /** Of the superuser, to the database `postgres`. The same after a restart. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** Of the postmaster. @throws when the server does not run. */
  readonly pid: number;
  readonly running: boolean;
  readonly dataDir: string;
  readonly logFile: string;
  /** Ends it in order: sessions are cut off, what was committed is on disk. */
  stop(): Promise<void>;
  /** SIGKILL for the postmaster and every backend. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data; stops it first when it runs. */
  restart(): Promise<void>;
  /** SIGSTOP for the postmaster and every backend: connections are accepted by the kernel and never answered. */
  pause(): Promise<void>;
  resume(): void;
  /** Makes a replica a primary; resolves when it accepts writes. */
  promote(): Promise<void>;
  /** A new empty database. @returns its URL. */
  createDatabase(name?: string): Promise<string>;
}

/** Small, and otherwise as in production: `fsync` stays on, because what survives a kill is tested. */
const TEST_SETTINGS: Readonly<Record<string, string>> = {
  shared_buffers: '16MB',
  max_connections: '200',
  max_wal_size: '128MB',
  min_wal_size: '16MB',
  wal_level: 'replica',
  // A replica that was paused finds what it missed.
  wal_keep_size: '64MB',
  // A replica of a restarted primary comes back at once instead of after 5 s.
  wal_retrieve_retry_interval: '200ms',
  // Files in the data folder, which go with it when the server was killed.
  dynamic_shared_memory_type: 'mmap',
  unix_socket_directories: '',
};

const CONNECT_MS_MAX = 10_000;
const PROMOTE_SECONDS_MAX = 30;

/** Starts a server; it accepts connections when this resolves. @throws when there is no PostgreSQL, or it does not start. */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const { postgres } = await obtainPostgres();
  const folder = newServerFolder('postgres');
  const dataDir = options.dataDir ?? join(folder, 'data');
  try {
    if (options.replicaOf === undefined) await createData(dataDir);
    else await copyPrimary(options.replicaOf.url, dataDir);
    const plan = (port: number): ServerPlan => ({
      name: `PostgreSQL on port ${port}`,
      command: postgres,
      args: ['-D', dataDir, ...settingArguments({ ...TEST_SETTINGS, ...options.settings }, port)],
      folder: dataDir,
      logFile: join(folder, 'log'),
      ready: /database system is ready to accept (read-only |read only )?connections/,
      user: postgresUser(),
      stopSignal: 'SIGINT',
      endSignal: 'SIGQUIT',
    });
    const { port, process } = await startOnPort(options.port ?? null, plan);
    return new OwnPostgres(plan(port), port, process, folder, dataDir);
  } catch (error) {
    removeServerFolder(folder);
    throw error;
  }
}

/** A streaming replica of `primary`, for failover: it answers reads, and writes once promoted. */
export async function startReplica(
  primary: PostgresServer,
  options: Omit<PostgresOptions, 'replicaOf'> = {},
): Promise<PostgresServer> {
  return await startPostgres({ ...options, replicaOf: primary });
}

/** Runs `work` over one connection. */
export async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: CONNECT_MS_MAX });
  client.on('error', () => undefined); // A query under way is rejected; without one there is nothing to tell.
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** The same server, another database. */
export function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${encodeURIComponent(name)}`;
  return changed.href;
}

/** A name that no other test has. */
export function newDatabaseName(): string {
  return `pantheon_${randomBytes(8).toString('hex')}`;
}

class OwnPostgres implements PostgresServer {
  readonly host: string = LOOPBACK;
  readonly port: number;
  readonly dataDir: string;
  readonly #plan: ServerPlan;
  readonly #folder: string;
  #process: ServerProcess;

  constructor(plan: ServerPlan, port: number, process: ServerProcess, folder: string, dataDir: string) {
    this.#plan = plan;
    this.port = port;
    this.#process = process;
    this.#folder = folder;
    this.dataDir = dataDir;
  }

  get url(): string {
    return `postgres://postgres@${this.host}:${this.port}/postgres`;
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
    await withClient(this.url, async (client) => {
      const { rows } = await client.query<{ done: boolean }>('select pg_promote(true, $1) as done', [
        PROMOTE_SECONDS_MAX,
      ]);
      if (rows[0]?.done !== true) throw new Error(`${this.#plan.name} was not promoted in ${PROMOTE_SECONDS_MAX} s`);
    });
  }

  async createDatabase(name: string = newDatabaseName()): Promise<string> {
    await withClient(this.url, (client) => client.query(`create database ${client.escapeIdentifier(name)}`));
    return withDatabase(this.url, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.kill(); // An immediate shutdown can take a second.
    releaseSharedMemory(this.dataDir);
    removeServerFolder(this.#folder);
  }
}

function settingArguments(settings: Readonly<Record<string, string>>, port: number): readonly string[] {
  const all = { ...settings, listen_addresses: LOOPBACK, port: String(port) };
  return Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}
