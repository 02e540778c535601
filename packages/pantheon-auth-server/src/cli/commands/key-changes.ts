/** `pantheon-auth keys update|rotate|rollback|revoke|suspend|resume`: changes to a key that is there. */
import type { Command } from 'commander';
import { printKey, sayNewKey } from '../answers.ts';
import type { ExitCode } from '../exit-codes.ts';
import { type CliContext, type ConnectionOptions, runCommand, type Session, withConnection } from '../session.ts';
import { call } from '../transport.ts';
import { pathOf, toCount, toIfMatch, withCleared, withCondition } from './arguments.ts';
import { type KeyOptions, toKeyBody, withKeySettings } from './key-body.ts';

export function addKeyChanges(keys: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  addUpdate(keys, context, finish);
  addRotate(keys, context, finish);
  for (const [verb, what] of [
    ['suspend', 'deny a key until it is resumed'],
    ['resume', 'end the suspension of a key'],
  ] as const) {
    const command = keys.command(verb).description(what).argument('<id>', 'its id');
    command.option('--reason <text>', 'reason, recorded in the audit trail');
    withCondition(command);
    if (verb === 'suspend')
      command.option('--force', 'also if it is the last administrator; needs pantheon:keys:force');
    runCommand<ChangeOptions>(withConnection(command), context, finish, (session, options, args) =>
      change(session, verb, options, args),
    );
  }
  const rollback = keys
    .command('rollback')
    .description('roll a key back to the version before the current one')
    .argument('<id>', 'its id');
  rollback
    .option('--reason <text>', 'reason, recorded in the audit trail')
    .option('--force', 'also if the current version has been used; needs pantheon:keys:force');
  runCommand<ChangeOptions>(withConnection(withCondition(rollback)), context, finish, (session, options, args) =>
    change(session, 'rollback', options, args),
  );
  addRevoke(keys, context, finish);
}

interface UpdateOptions extends KeyOptions {
  readonly clear?: readonly string[];
  readonly ifMatch?: string;
  readonly force?: true;
}

function addUpdate(keys: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const update = keys
    .command('update')
    .description('change the given settings of a key')
    .argument('<id>', 'its id')
    .option('--user <id>', 'id of the user that the key belongs to')
    .option('--name <text>', 'display name');
  withKeySettings(update)
    .option(
      '--clear <member...>',
      'settings to remove, by their names in the API: description, expiresAt, quota, rateLimits...',
    )
    .option('--force', 'also if it is the last administrator; needs pantheon:keys:force')
    .addHelpText(
      'after',
      `
A list takes the place of the one that was there. Of --rotate-every and --overlap, and of the options of tokens, what is
not named stays.

Example:
  $ pantheon-auth keys update 4fGh2kLmNp0QrStU --permission orders:read --clear quota --if-match k7`,
    );
  runCommand<UpdateOptions>(withConnection(withCondition(update)), context, finish, async (session, options, args) => {
    const path = pathOf(args);
    const body = withCleared(await toKeyBody(options), options.clear ?? []);
    const headers = session.headers({ 'if-match': toIfMatch(options.ifMatch) });
    const request = { body, query: { force: options.force && 'true' }, headers };
    return printKey(session, await call(await session.connect(), 'PATCH', path, request));
  });
}

interface RotateOptions extends ConnectionOptions {
  readonly ifMatch?: string;
  readonly overlap?: string;
  readonly expectedVersion?: string;
  readonly retireOnFirstUse?: true;
  readonly idempotencyKey?: string;
  readonly out?: string;
}

function addRotate(keys: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const rotate = keys
    .command('rotate')
    .description('create the next version of a key; the key string is printed once, alone on standard output')
    .argument('<id>', 'its id')
    .option('--overlap <duration>', 'how long the previous version is still accepted, such as 24h; 0s: not at all')
    .option('--expected-version <number>', 'rotate only if this is the current version')
    .option('--retire-on-first-use', 'end the previous version when the new one is used')
    .option('--idempotency-key <text>', 'a text that makes it safe to repeat the command')
    .option('--out <file>', 'write the key string to a new file that only you can read, instead of printing it')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth keys rotate 4fGh2kLmNp0QrStU --overlap 1h --out deploy.key.2');
  runCommand<RotateOptions>(withConnection(withCondition(rotate)), context, finish, async (session, options, args) => {
    const path = `${pathOf(args)}/rotate`;
    const { overlap, expectedVersion: expected, retireOnFirstUse } = options;
    const expectedVersion = expected === undefined ? undefined : toCount(expected, 'expected-version');
    const headers = session.headers({
      'idempotency-key': options.idempotencyKey,
      'if-match': toIfMatch(options.ifMatch),
    });
    const request = { body: { overlap, expectedVersion, retireOnFirstUse }, headers };
    return sayNewKey(session, options.out, async () => call(await session.connect(), 'POST', path, request));
  });
}

interface ChangeOptions extends ConnectionOptions {
  readonly ifMatch?: string;
  readonly reason?: string;
  readonly cascade?: true;
  readonly cascadeActed?: true;
  readonly force?: true;
}

function addRevoke(keys: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const revoke = keys
    .command('revoke')
    .description('revoke a key and every token made from it; final')
    .argument('<id>', 'its id')
    .option('--reason <text>', 'reason, recorded in the audit trail')
    .option(
      '--cascade',
      'also revoke keys that it created, and theirs; lists those that it rotated, updated or resumed',
    )
    .option(
      '--cascade-acted',
      'also revoke keys that any of these rotated, updated or resumed, and tokens that they had issued',
    )
    .option('--force', 'also if it is the last administrator; needs pantheon:keys:force')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth keys revoke 4fGh2kLmNp0QrStU --reason "left the company"');
  runCommand<ChangeOptions>(withConnection(withCondition(revoke)), context, finish, (session, options, args) =>
    change(session, 'revoke', options, args),
  );
}

async function change(
  session: Session,
  verb: 'revoke' | 'suspend' | 'resume' | 'rollback',
  { reason, cascade, cascadeActed, force, ifMatch }: ChangeOptions,
  args: readonly string[],
): Promise<ExitCode> {
  const path = `${pathOf(args)}/${verb}`;
  const query = { cascade: cascadeActed ? 'acted' : cascade && 'true', force: force && 'true' };
  const request = { body: { reason }, query, headers: session.headers({ 'if-match': toIfMatch(ifMatch) }) };
  return printKey(session, await call(await session.connect(), 'POST', path, request));
}
