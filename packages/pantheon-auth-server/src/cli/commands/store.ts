/** `pantheon-auth migrate` and `bootstrap`: commands that are run once for a database, in process. */
import { existsSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { type PantheonAuth, PantheonError, SYSTEM_TENANT } from 'pantheon-auth';
import { type Config, loadConfig } from '../../settings/config.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { Output } from '../output.ts';
import type { CliContext } from '../session.ts';

export interface StoreOptions {
  readonly dataDir?: string;
  readonly json?: true;
}

export function addStoreCommands(program: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const migrate = program
    .command('migrate')
    .description('create or update the tables of the database; safe to repeat')
    .addHelpText(
      'after',
      '\nExample:\n  $ PANTHEON_AUTH_DATABASE_URL=postgres://pantheon@db/pantheon pantheon-auth migrate',
    );
  actOnStore<StoreOptions>(migrate, context, async (output, config) => {
    const { migrateStore } = await import('../../service/open.ts');
    const ran = await migrateStore(config, await logTo(output));
    if (output.json) output.answer({ ran });
    else output.line(ran?.length ? `Ran ${ran.join(', ')}. The tables are up to date.` : 'The tables are up to date.');
    finish(EXIT.ok);
  });

  const bootstrap = program
    .command('bootstrap')
    .description('create the first administrator; its key string is written to a new file that only you can read')
    .requiredOption('--out <file>', 'the file, which must not exist')
    .option('--recover', 'create another administrator, recorded in the audit trail')
    .addHelpText(
      'after',
      `
On SQLite the first start of the server does this by itself, into the root key file.

Examples:
  $ pantheon-auth bootstrap --out root.key
  $ pantheon-auth bootstrap --recover --out root.key.2   # when the key of the administrator is lost`,
    );
  actOnStore<BootstrapOptions>(bootstrap, context, async (output, config, options) => {
    finish(await makeAdministrator(output, config, options));
  });
}

type StoreHandler<Options> = (output: Output, config: Config, options: Options) => Promise<void>;

/** Runs a command on the database of the settings. */
export function actOnStore<Options extends StoreOptions>(
  command: Command,
  context: CliContext,
  handler: StoreHandler<Options>,
): void {
  command
    .option('--data-dir <folder>', 'data folder; default: PANTHEON_AUTH_DATA_DIR')
    .option('--json', 'print the answer as JSON')
    .action(async () => {
      const options = command.opts<Options>();
      const flags = options.dataDir === undefined ? {} : { DATA_DIR: options.dataDir };
      const { config } = loadConfig(flags, context.environment);
      await handler(new Output(context, options.json === true), config, options);
    });
}

/** The same with the engine opened. The command acts as the process, so it needs no key. */
export function actOnEngine<Options extends StoreOptions>(
  command: Command,
  context: CliContext,
  handler: (output: Output, auth: PantheonAuth, options: Options) => Promise<void>,
): void {
  actOnStore<Options>(command, context, async (output, config, options) => {
    assertThere(config);
    const { openEngine } = await import('../../service/open.ts');
    const auth = await openEngine(config, await logTo(output), 'command');
    try {
      await handler(output, auth, options);
    } finally {
      await auth.close();
    }
  });
}

interface BootstrapOptions extends StoreOptions {
  readonly out: string;
  readonly recover?: true;
}

async function makeAdministrator(output: Output, config: Config, options: BootstrapOptions): Promise<ExitCode> {
  const { recover = false } = options;
  const path = resolve(options.out);
  if (recover) assertRecoverable(config, path);
  // Imported when needed: it loads the whole engine.
  const { openEngine } = await import('../../service/open.ts');
  const auth = await openEngine(config, await logTo(output), 'command');
  try {
    const id = await writeAndMake(auth, path, recover);
    if (output.json) output.answer({ keyId: id, file: path });
    else output.facts([['administrator', id]]);
    output.note(`The key string is in ${path}. It is stored nowhere else.`);
    return EXIT.ok;
  } finally {
    await auth.close();
  }
}

/** @throws PantheonError `already_exists` when there is an administrator and `--recover` was not given. */
async function writeAndMake(auth: PantheonAuth, path: string, recover: boolean): Promise<string> {
  const { rootKeyStore } = await import('../../service/open.ts');
  const file = rootKeyStore(path, 'out');
  let isOurs = false;
  const store = {
    read: () => file.read(),
    write: async (key: string) => {
      await file.write(key);
      isOurs = true;
    },
  };
  try {
    const made = await auth.bootstrap(store, { recover });
    if (made !== null) return made.id;
  } catch (error) {
    // Removed after a failed `--recover`, so that it can be repeated. A first start continues with the existing file.
    if (recover && isOurs && isCertain(error)) rmSync(path, { force: true });
    throw error;
  }
  // Another process created the administrator at the same time, with this file or with another.
  const isTheKey = await opens(auth, file.read());
  if (isOurs && !isTheKey) rmSync(path, { force: true });
  const where = isTheKey ? `, and its key is in ${path}. For another one` : '. If its key is lost';
  const detail = `There is an administrator already${where}: pantheon-auth bootstrap --recover --out FILE`;
  throw new PantheonError('already_exists', { detail });
}

async function opens(auth: PantheonAuth, key: string | null): Promise<boolean> {
  if (key === null) return false;
  const verification = await auth.verify({ key: key.trim(), tenant: SYSTEM_TENANT, cost: 0 });
  return verification.valid || !['unknown', 'malformed'].includes(verification.denial.code);
}

/**
 * Whether it is certain that no key was created. An error that is not a `PantheonError` may have occurred after the
 * commit.
 */
function isCertain(error: unknown): boolean {
  return error instanceof PantheonError && error.code !== 'outcome_unknown';
}

/** Checked before anything is opened. */
function assertRecoverable(config: Config, path: string): void {
  if (existsSync(path))
    throw new PantheonError('invalid_request', {
      field: 'out',
      detail: `The file ${path} exists already and is not replaced`,
    });
  assertThere(config);
}

/** A folder without a database is taken for a mistyped one, and no database is created in it. */
export function assertThere({ database }: Pick<Config, 'database'>): void {
  if (database.kind === 'sqlite' && !existsSync(database.file))
    throw new PantheonError('store_unusable', {
      field: 'DATA_DIR',
      detail: `There is no database ${database.file}: name the folder of the right one`,
    });
}

export async function logTo(output: Output) {
  const { createCommandLog } = await import('../command-log.ts');
  return createCommandLog((warning) => output.warn(warning));
}
