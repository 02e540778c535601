/** `pantheon-auth tenants get|update`: shows and changes a tenant, with a key of the system tenant. */
import type { Command } from 'commander';
import { printKey } from '../answers.ts';
import type { ExitCode } from '../exit-codes.ts';
import { type CliContext, type ConnectionOptions, runCommand, withConnection } from '../session.ts';
import { call } from '../transport.ts';
import { invalid, toIfMatch, withCleared, withCondition } from './arguments.ts';

interface UpdateOptions extends ConnectionOptions {
  readonly name?: string;
  readonly audience?: readonly string[];
  readonly clear?: readonly string[];
  readonly ifMatch?: string;
}

export function addTenantsCommands(program: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const tenants = program.command('tenants').description('tenants: show one, change its name and audiences');
  const get = tenants.command('get').description('show one tenant').argument('<id>', 'its id');
  runCommand<ConnectionOptions>(withConnection(get), context, finish, async (session, _options, args) => {
    const path = pathOf(args);
    return printKey(session, await call(await session.connect(), 'GET', path, { headers: session.headers() }));
  });

  const update = tenants
    .command('update')
    .description('change the given settings of a tenant')
    .argument('<id>', 'its id')
    .option('--name <text>', 'display name')
    .option('--audience <name...>', 'all audiences that its keys may have, in addition to those of the service')
    .option('--clear <member...>', 'settings to remove: name, audiences')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth tenants update default --audience https://orders.example.com');
  runCommand<UpdateOptions>(withConnection(withCondition(update)), context, finish, async (session, options, args) => {
    const path = pathOf(args);
    const body = withCleared({ name: options.name, audiences: options.audience }, options.clear ?? []);
    const request = { body, headers: session.headers({ 'if-match': toIfMatch(options.ifMatch) }) };
    return printKey(session, await call(await session.connect(), 'PATCH', path, request));
  });
}

/** @throws PantheonError `invalid_request` for anything but an id, which would otherwise change the path. */
function pathOf([id = '']: readonly string[]): string {
  if (!/^[a-z0-9_-]{1,64}$/.test(id)) throw invalid('id', 'An id is 1 to 64 characters of a-z, 0-9, _ and -');
  return `/v1/tenants/${id}`;
}
