/** A private PgBouncer for tests, between the tests and one PostgreSQL server, owned by this process. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { obtainPgBouncer } from './binaries.ts';
import { LOOPBACK } from './free-port.ts';
import type { PostgresServer } from './postgres.ts';
import { postgresUser } from './postgres-data.ts';
import { newServerFolder, removeServerFolder } from './run-folder.ts';
import { type ServerPlan, type ServerProcess, startOnPort } from './server-process.ts';

export type PoolMode = 'session' | 'transaction' | 'statement';

export interface PgBouncer extends AsyncDisposable {
  readonly port: number;
  /** The same database through it. */
  rewrite(url: string): string;
}

/** Starts one in front of `server`. `settings` go into the section `[pgbouncer]`. @throws when there is no PgBouncer. */
export async function startPgBouncer(
  server: PostgresServer,
  mode: PoolMode,
  settings: Readonly<Record<string, string>> = {},
): Promise<PgBouncer> {
  const command = await obtainPgBouncer();
  const folder = newServerFolder('pgbouncer');
  // It runs as the user of PostgreSQL, since it refuses to run as root.
  chmodSync(folder, 0o755);
  const users = join(folder, 'users.txt');
  writeFileSync(users, '"postgres" ""\n', { mode: 0o644 });
  const plan = (port: number): ServerPlan => {
    const own = {
      listen_addr: LOOPBACK,
      listen_port: String(port),
      auth_type: 'trust',
      auth_file: users,
      pool_mode: mode,
      unix_socket_dir: '',
      ...settings,
    };
    const lines = Object.entries(own).map(([name, value]) => `${name} = ${value}`);
    const file = join(folder, 'pgbouncer.ini');
    const database = `* = host=${server.host} port=${server.port}`;
    writeFileSync(file, ['[databases]', database, '[pgbouncer]', ...lines, ''].join('\n'), { mode: 0o644 });
    return {
      name: `PgBouncer on port ${port}`,
      command,
      args: [file],
      folder,
      logFile: join(folder, 'log'),
      ready: /process up/,
      user: postgresUser(),
      stopSignal: 'SIGINT',
      endSignal: 'SIGKILL',
    };
  };
  try {
    const { port, process } = await startOnPort(null, plan);
    return handleOf(port, process, folder, server);
  } catch (error) {
    removeServerFolder(folder);
    throw error;
  }
}

function handleOf(port: number, process: ServerProcess, folder: string, server: PostgresServer): PgBouncer {
  return {
    port,
    rewrite: (url) => url.replace(`:${server.port}/`, `:${port}/`),
    async [Symbol.asyncDispose]() {
      await process.kill();
      removeServerFolder(folder);
    },
  };
}
