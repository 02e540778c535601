/** `pantheon-auth clock accept`: corrects the recorded time of a database. */
import type { Command } from 'commander';
import type { ClockAcceptance } from 'pantheon-auth';
import type { Config } from '../../settings/config.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import type { Output } from '../output.ts';
import type { CliContext } from '../session.ts';
import { actOnStore, assertThere, logTo, type StoreOptions } from './store.ts';

interface AcceptOptions extends StoreOptions {
  readonly yes?: true;
  readonly reason?: string;
}

export function addClockCommands(program: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const clock = program.command('clock').description('the recorded time of the database');
  const accept = clock
    .command('accept')
    .description('correct the recorded time of a database on which no server starts (clock_in_doubt)')
    .option('--yes', 'apply the change; without this both times are shown and nothing is changed')
    .option('--reason <text>', 'reason, recorded in the audit trail')
    .addHelpText(
      'after',
      `
Stop every server first, and put the clocks right. Then all signing keys are replaced, in keys that were changed in the
wrong time the dates are brought back to now and older secrets end, and the audit trail says store.clock_accepted.

Examples:
  $ pantheon-auth clock accept
  $ pantheon-auth clock accept --yes --reason 'the host was a year ahead on Monday'`,
    );
  actOnStore<AcceptOptions>(accept, context, async (output, config, options) => {
    finish(await acceptTime(output, config, options));
  });
}

async function acceptTime(output: Output, config: Config, options: AcceptOptions): Promise<ExitCode> {
  assertThere(config);
  const { acceptStoreClock } = await import('../../service/open.ts');
  const { yes = false, reason } = options;
  const log = await logTo(output);
  const answer = await acceptStoreClock(config, log, { apply: yes, ...(reason !== undefined && { reason }) });
  if (output.json) output.answer(answer);
  else tell(output, answer);
  return EXIT.ok;
}

function tell(output: Output, { recorded, now, isNeeded, done }: ClockAcceptance): void {
  output.facts([
    ['recorded', recorded.toISOString()],
    ['now', now.toISOString()],
  ]);
  if (done !== null) {
    output.facts([
      ['keys corrected', String(done.keysCorrected)],
      ['signing keys replaced', String(done.signingKeysReplaced)],
    ]);
    for (const { keyId } of done.keysLeft) output.warn(`Key ${keyId} cannot be opened and was not changed: revoke it.`);
    output.note('The current time was recorded. Start the servers.');
  } else {
    output.note(
      isNeeded
        ? 'Nothing was changed. If `now` is right: --yes'
        : 'Nothing to do: the recorded time is not in the future, and servers start.',
    );
  }
}
