/** `pantheon-auth serve`: every setting as a flag, except those that are secrets. */
import type { Command } from 'commander';
import { PantheonError } from 'pantheon-auth';
import { type Flags, loadConfig, type SettingName } from '../../settings/config.ts';
import { holdsPassword } from '../../settings/store-settings.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import type { CliContext } from '../session.ts';

/** Without MASTER_KEY: every process of the machine can read arguments. */
const FLAGS: Readonly<Record<Exclude<SettingName, 'MASTER_KEY'>, readonly [flag: string, help: string]>> = {
  PORT: ['--port <number>', 'where to listen; 8787'],
  HOST: ['--host <address>', 'where to listen; 127.0.0.1'],
  DATA_DIR: ['--data-dir <folder>', 'the data folder; ./data'],
  DATABASE_URL: ['--database-url <url>', 'sqlite:<file in the data folder> or postgres://user@host:port/database'],
  DATABASE_SCHEMA: ['--database-schema <name>', 'PostgreSQL schema of the tables'],
  POSTGRES_POOL_MAX: ['--postgres-pool-max <number>', 'connections to PostgreSQL at most; 16'],
  REDIS_URL: ['--redis-url <urls>', 'where all nodes count limits: redis://host:port or rediss://host:port'],
  LIMITS: ['--limits <place>', 'redis, or local: each node counts alone, so each admits the whole limit'],
  ON_LIMITER_OUTAGE: [
    '--on-limiter-outage <policy>',
    'when Redis does not answer: local (a share of each limit) or deny',
  ],
  KEYS_PER_TENANT_MAX: ['--keys-per-tenant-max <number>', 'keys of a tenant that are not revoked, at most; 1000000'],
  CACHE_MB: ['--cache-mb <number>', 'memory for caches and rate-limit counters; a third of the heap, at most 512'],
  SELF_ROTATIONS_PER_HOUR: ['--self-rotations-per-hour <number>', 'how often one key may rotate itself; 300'],
  SIGNING_KEY_ROTATION: ['--signing-key-rotation <duration>', 'how long a signing key signs, or off; 90d'],
  EXPIRY_NOTICES: ['--expiry-notices <list>', 'how long ahead the expiry of a key is announced, or off; 30d,7d,1d'],
  PUBLIC_URL: ['--public-url <url>', 'the issuer of tokens; http://localhost:<port>'],
  AUDIENCE: ['--audience <names>', 'the audience of tokens; the public URL'],
  MASTER_KEY_FILE: ['--master-key-file <file>', 'master.key in the data folder'],
  ROOT_KEY_FILE: ['--root-key-file <file>', 'root.key in the data folder'],
  METRICS_PORT: ['--metrics-port <number>', 'where to serve metrics; nowhere'],
  METRICS_HOST: ['--metrics-host <address>', 'on which address; 127.0.0.1'],
  TRUSTED_PROXIES: ['--trusted-proxies <ranges>', 'proxies whose X-Forwarded-For is trusted'],
  ALLOW_INSECURE_HTTP: ['--allow-insecure-http <switch>', 'plain http beyond this machine: on or off'],
  LOG_LEVEL: ['--log-level <level>', 'fatal, error, warn, info, debug, trace or silent'],
  DOCS: ['--docs <switch>', 'serve /docs and /openapi.json: on or off'],
};

export function addServeCommand(program: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const command = program.command('serve').description('run the service until it is told to stop');
  for (const [flag, help] of Object.values(FLAGS)) command.option(flag, help);
  command.addHelpText(
    'after',
    `
Each flag is also a variable: PANTHEON_AUTH_PORT and so on, and PANTHEON_AUTH_MASTER_KEY, which is no flag. Addresses with
a password are variables only: PANTHEON_AUTH_DATABASE_URL, PANTHEON_AUTH_REDIS_URL.

Examples:
  $ pantheon-auth serve --port 8787 --data-dir ./data
  $ pantheon-auth migrate && pantheon-auth bootstrap --out root.key   # once, on PostgreSQL, with the same settings`,
  );
  command.action(async () => {
    const options = command.opts<Readonly<Record<string, string>>>();
    const flags: Flags = {};
    for (const name of Object.keys(FLAGS) as (keyof typeof FLAGS)[]) {
      const value = options[camelCase(name)];
      if (value !== undefined) flags[name] = withoutPassword(name, value);
    }
    const { config, unknown } = loadConfig(flags, context.environment);
    // Imported when needed: other commands start without it.
    const { serve } = await import('../../service/serve.ts');
    const running = await serve(config, { unknown, write: (text) => context.stdout.write(text) });
    // The error has been logged.
    await running.closed.catch(() => finish(EXIT.internal));
  });
}

/** The name that commander gives to the value of a flag. */
function camelCase(name: string): string {
  return name.toLowerCase().replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** @throws PantheonError `invalid_setting` for a password in an argument. */
function withoutPassword(name: SettingName, value: string): string {
  if (holdsPassword(value)) {
    const detail = `It holds a password, which every process of this machine can read: use PANTHEON_AUTH_${name}`;
    throw new PantheonError('invalid_setting', { field: name, detail });
  }
  return value;
}
