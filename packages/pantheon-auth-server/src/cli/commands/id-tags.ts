/**
 * `pantheon-auth id-tags`: manages the secrets that tag the ids of keys, in process on the database of the settings.
 */
import type { Command } from 'commander';
import { type IdTagSecret, PantheonError } from 'pantheon-auth';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import type { Output } from '../output.ts';
import type { CliContext } from '../session.ts';
import { actOnEngine, type StoreOptions } from './store.ts';

interface ChangeOptions extends StoreOptions {
  readonly reason?: string;
}

export function addIdTagCommands(program: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const group = program
    .command('id-tags')
    .description('the secrets that tag the ids of keys, so that invented ids are refused without reading the database')
    .addHelpText(
      'after',
      `
To replace one that somebody else may know: add, wait two seconds, retire the old number. Keys stay as they are.

Examples:
  $ pantheon-auth id-tags list
  $ pantheon-auth id-tags add --reason 'a backup was lost'
  $ pantheon-auth id-tags retire 1 --reason 'a backup was lost'`,
    );

  actOnEngine<StoreOptions>(
    group.command('list').description('list numbers and dates, never a secret'),
    context,
    async (output, auth) => {
      show(output, auth.idTags.list());
      finish(EXIT.ok);
    },
  );

  const add = group.command('add').description('create one; new ids use it when every node has read it');
  add.option('--reason <text>', 'reason, recorded in the audit trail');
  actOnEngine<ChangeOptions>(add, context, async (output, auth, { reason }) => {
    show(output, [await auth.idTags.add(reason === undefined ? {} : { reason })]);
    finish(EXIT.ok);
  });

  const retire = group
    .command('retire')
    .description('retire one that may have leaked; keys whose ids it tagged stay valid')
    .argument('<number>', 'its number in `id-tags list`')
    .option('--reason <text>', 'reason, recorded in the audit trail');
  actOnEngine<ChangeOptions>(retire, context, async (output, auth, { reason }) => {
    show(output, [await auth.idTags.retire(numberOf(retire.args[0]), reason === undefined ? {} : { reason })]);
    finish(EXIT.ok);
  });
}

function numberOf(text = ''): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new PantheonError('invalid_request', { field: 'number', detail: 'A whole number, as id-tags list shows it' });
}

function show(output: Output, secrets: readonly IdTagSecret[]): void {
  if (output.json) {
    output.answer({ items: secrets });
    return;
  }
  const state = ({ retiredAt, quarantined }: IdTagSecret): string =>
    [
      retiredAt === null ? 'active' : `retired ${retiredAt.toISOString()}`,
      ...(quarantined ? ['cannot be opened'] : []),
    ].join(', ');
  output.table(
    ['number', 'created', 'state'],
    secrets.map((one) => [String(one.number), one.createdAt.toISOString(), state(one)]),
  );
}
