/**
 * `pantheon-auth keys …`: creates, finds and verifies keys. Each command makes one call of the API and prints its
 * answer.
 */
import type { Command } from 'commander';
import { printKey, sayNewKey, sayVerdict } from '../answers.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { KEY_HEAD, keyRow, listOf, VERSION_HEAD, versionRow } from '../key-view.ts';
import { type CliContext, type ConnectionOptions, runCommand, type Session, withConnection } from '../session.ts';
import { call, type JsonBody } from '../transport.ts';
import { invalid, pathOf, toCount } from './arguments.ts';
import { type KeyOptions, toKeyBody, withKeySettings } from './key-body.ts';
import { addKeyChanges } from './key-changes.ts';

/** The largest page of the API. */
const PAGE_MAX = '200';
/** A longer table would not be read; use --cursor instead. */
const LIST_ALL_MAX = 100_000;

export function addKeysCommands(program: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const keys = program.command('keys').description('API keys: create, show, verify, rotate, suspend, revoke');
  addCreate(keys, context, finish);
  addList(keys, context, finish);
  addVerify(keys, context, finish);
  addKeyChanges(keys, context, finish);

  const get = keys.command('get').description('show one key').argument('<id>', 'id of the key: 16 letters and digits');
  runCommand<ConnectionOptions>(withConnection(get), context, finish, async (session, _options, args) => {
    const path = pathOf(args);
    return printKey(session, await call(await session.connect(), 'GET', path, { headers: session.headers() }));
  });

  const versions = keys.command('versions').description('show the versions of a key').argument('<id>', 'its id');
  runCommand<ConnectionOptions>(withConnection(versions), context, finish, async (session, _options, args) => {
    const path = `${pathOf(args)}/versions`;
    const body = await call(await session.connect(), 'GET', path, { headers: session.headers() });
    if (session.output.json) session.output.answer(body);
    else session.output.table(VERSION_HEAD, listOf(body, 'items').map(versionRow));
    return EXIT.ok;
  });
}

interface CreateOptions extends KeyOptions {
  readonly environment?: string;
  readonly idempotencyKey?: string;
  readonly out?: string;
}

function addCreate(keys: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const create = keys
    .command('create')
    .description('create a key; the key string is printed once, alone on standard output')
    .requiredOption('--user <id>', 'id of the user that the key belongs to')
    .requiredOption('--name <text>', 'display name')
    .option('--environment <name>', 'live (default) or test');
  withKeySettings(create)
    .option('--idempotency-key <text>', 'a text that makes it safe to repeat the command')
    .option('--out <file>', 'write the key string to a new file that only you can read, instead of printing it')
    .addHelpText(
      'after',
      `
Examples:
  $ pantheon-auth keys create --user user-1 --name deploy --permission deploy:run --expires-in 90d --out deploy.key
  $ pantheon-auth keys create --user user-1 --name api --permission 'orders:*' --rate-limit requests=100/1m`,
    );
  runCommand<CreateOptions>(withConnection(create), context, finish, async (session, options) => {
    const request = {
      body: { ...(await toKeyBody(options)), environment: options.environment },
      headers: session.headers({ 'idempotency-key': options.idempotencyKey }),
    };
    return sayNewKey(session, options.out, async () => call(await session.connect(), 'POST', '/v1/keys', request));
  });
}

interface ListOptions extends ConnectionOptions {
  readonly user?: string;
  readonly state?: string;
  readonly environment?: string;
  readonly search?: string;
  readonly limit?: string;
  readonly cursor?: string;
  readonly all?: true;
}

function addList(keys: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const list = keys
    .command('list')
    .description('list keys, newest first')
    .option('--user <id>', 'of this user')
    .option('--state <name>', 'active, suspended, revoked or expired')
    .option('--environment <name>', 'live or test')
    .option('--search <text>', 'part of the name, or the start of an id')
    .option('--limit <count>', 'keys on one page')
    .option('--cursor <text>', 'cursor of the next page, from the previous one')
    .option('--all', 'all pages')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth keys list --user user-1 --state active --all --json');
  runCommand<ListOptions>(withConnection(list), context, finish, async (session, options) => {
    const page = await listKeys(session, options);
    const { output } = session;
    if (output.json) output.answer(page);
    else {
      output.table(KEY_HEAD, listOf(page, 'items').map(keyRow));
      if (typeof page['nextCursor'] === 'string')
        output.note(`There are more keys: --all, or --cursor ${page['nextCursor']}`);
    }
    return EXIT.ok;
  });
}

/** One page; with `--all` the items of all pages as one. */
async function listKeys(session: Session, options: ListOptions): Promise<JsonBody> {
  const { user: userId, state, environment, search: q, all } = options;
  const transport = await session.connect();
  const items: JsonBody[] = [];
  for (let cursor = options.cursor; ; ) {
    const limit = options.limit ?? (all && PAGE_MAX);
    const query = { userId, state, environment, q, limit, cursor };
    const page = await call(transport, 'GET', '/v1/keys', { query, headers: session.headers() });
    if (!all) return page;
    items.push(...listOf(page, 'items'));
    if (items.length > LIST_ALL_MAX)
      throw invalid('all', `There are more than ${LIST_ALL_MAX} keys: narrow the list, or page with --cursor`);
    if (typeof page['nextCursor'] !== 'string') return { items, nextCursor: null };
    cursor = page['nextCursor'];
  }
}

interface VerifyOptions extends ConnectionOptions {
  readonly keyFile?: string;
  readonly permission?: string[];
  readonly ip?: string;
  readonly environment?: string;
  readonly anyEnvironment?: true;
  readonly cost?: string;
}

function addVerify(keys: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const verify = keys
    .command('verify')
    .description('verify a key: exit code 0 if it is accepted, 1 if it is denied')
    .option('--key-file <file>', 'the key to verify; else PANTHEON_AUTH_SUBJECT_KEY; else standard input')
    .option('--permission <name...>', 'permissions that it must have')
    .option('--ip <address>', 'address of the client')
    .option('--environment <name>', 'environment that is accepted: live (default) or test')
    .option('--any-environment', 'keys of both environments are accepted')
    .option('--cost <units>', 'units to take from its limits; 0 checks without consuming')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth keys verify --permission deploy:run --cost 0 < deploy.key');
  runCommand<VerifyOptions>(withConnection(verify), context, finish, async (session, options) => {
    const { permission: permissions, ip, environment, anyEnvironment } = options;
    const cost = options.cost === undefined ? undefined : toCount(options.cost, 'cost');
    const key = (await session.secret('key', options.keyFile)).reveal();
    const body = { key, permissions, ip, environment, anyEnvironment, cost };
    const verdict = await call(await session.connect(), 'POST', '/v1/keys/verify', {
      body,
      headers: session.headers(),
    });
    return sayVerdict(session, verdict);
  });
}
