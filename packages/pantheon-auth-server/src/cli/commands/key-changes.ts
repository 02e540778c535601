/** `pantheon-auth keys update|rotate|revoke|suspend|resume`: changes to a key that is there. */
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
    ['suspend', 'refuse a key until it is resumed'],
    ['resume', 'take a suspension back'],
  ] as const) {
    const command = keys.command(verb).description(what).argument('<id>', 'its id');
    command.option('--reason <text>', 'for the audit trail');
    withCondition(command);
    if (verb === 'suspend')
      command.option('--force', 'also the last key that can administer; needs pantheon:keys:force');
    runCommand<ChangeOptions>(withConnection(command), context, finish, (session, options, args) =>
      change(session, verb, options, args),
    );
  }
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
    .description('change what is named of a key and leave the rest')
    .argument('<id>', 'its id')
    .option('--user <id>', 'whose key it is')
    .option('--name <text>', 'what it is for');
  withKeySettings(update)
    .option(
      '--clear <member...>',
      'what to take away, as the API calls it: description, expiresAt, quota, rateLimits...',
    )
    .option('--force', 'also the last key that can administer; needs pantheon:keys:force')
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
  readonly idempotencyKey?: string;
  readonly out?: string;
}

function addRotate(keys: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const rotate = keys
    .command('rotate')
    .description('make the next version of a key; its string is printed once, alone on standard output')
    .argument('<id>', 'its id')
    .option('--overlap <duration>', 'how long the version before is still accepted, as in 24h; 0s: not at all')
    .option('--expected-version <number>', 'only when this is the current version')
    .option('--idempotency-key <text>', 'makes it safe to repeat the command')
    .option('--out <file>', 'write the key string to a new file of yours alone instead of printing it')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth keys rotate 4fGh2kLmNp0QrStU --overlap 1h --out deploy.key.2');
  runCommand<RotateOptions>(withConnection(withCondition(rotate)), context, finish, async (session, options, args) => {
    const path = `${pathOf(args)}/rotate`;
    const { overlap, expectedVersion: expected } = options;
    const expectedVersion = expected === undefined ? undefined : toCount(expected, 'expected-version');
    const headers = session.headers({
      'idempotency-key': options.idempotencyKey,
      'if-match': toIfMatch(options.ifMatch),
    });
    const request = { body: { overlap, expectedVersion }, headers };
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
    .description('end a key and every token made from it, for ever')
    .argument('<id>', 'its id')
    .option('--reason <text>', 'for the audit trail')
    .option('--cascade', 'also the keys that it created, and theirs; names those that it rotated, updated or resumed')
    .option('--cascade-acted', 'also those that it, or any of those, rotated, updated or resumed')
    .option('--force', 'also the last key that can administer; needs pantheon:keys:force')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth keys revoke 4fGh2kLmNp0QrStU --reason "left the company"');
  runCommand<ChangeOptions>(withConnection(withCondition(revoke)), context, finish, (session, options, args) =>
    change(session, 'revoke', options, args),
  );
}

async function change(
  session: Session,
  verb: 'revoke' | 'suspend' | 'resume',
  { reason, cascade, cascadeActed, force, ifMatch }: ChangeOptions,
  args: readonly string[],
): Promise<ExitCode> {
  const path = `${pathOf(args)}/${verb}`;
  const query = { cascade: cascadeActed ? 'acted' : cascade && 'true', force: force && 'true' };
  const request = { body: { reason }, query, headers: session.headers({ 'if-match': toIfMatch(ifMatch) }) };
  return printKey(session, await call(await session.connect(), 'POST', path, request));
}
