/** The command line: its commands, its help, and the exit code of every run. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { PantheonError } from 'pantheon-auth';
import { addClockCommands } from './commands/clock.ts';
import { addIdTagCommands } from './commands/id-tags.ts';
import { addKeysCommands } from './commands/keys.ts';
import { addServeCommand } from './commands/serve.ts';
import { addSigningKeysCommands } from './commands/signing-keys.ts';
import { addStoreCommands } from './commands/store.ts';
import { addTenantsCommands } from './commands/tenants.ts';
import { addTokenCommands } from './commands/token.ts';
import { EXIT, EXIT_CODES_HELP, type ExitCode } from './exit-codes.ts';
import { toFailure } from './failure.ts';
import { Output } from './output.ts';
import { refuseSecretArguments } from './secret-input.ts';
import type { CliContext } from './session.ts';

/** Runs one command line; the arguments are those after the program's name. Never throws. */
export async function run(args: readonly string[], context: CliContext): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  const finish = (code: ExitCode): void => {
    exitCode = code;
  };
  try {
    // First, so that no error message repeats the argument.
    refuseSecretArguments(args);
    // Without a command the help is printed, and the exit code is 0.
    const line = args.length === 0 ? ['--help'] : [...args];
    await createProgram(context, finish).parseAsync(line, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok;
    const failure = toFailure(error instanceof CommanderError ? toUsageError(error) : error);
    new Output(context, args.includes('--json')).fail(failure);
    return failure.exitCode;
  }
}

function createProgram(context: CliContext, finish: (code: ExitCode) => void): Command {
  const program = new Command('pantheon-auth')
    .description('API keys and the JWTs that come from them')
    .version(versionOfPackage())
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      // Usage errors are printed by this program, without repeating arguments.
      writeErr: () => {},
    })
    .addHelpText(
      'after',
      `
Without --url, commands work on the store that the settings name, by default the data folder of this machine, also beside
running servers, with the root key.
Secrets come from a file, the environment or standard input; an argument that looks like one is refused.

Environment:
  PANTHEON_AUTH_URL            the server to talk to
  PANTHEON_AUTH_KEY_FILE       the file with your own key; or PANTHEON_AUTH_KEY, the key itself
  PANTHEON_AUTH_SUBJECT_KEY    the key that a command is about
  PANTHEON_AUTH_SUBJECT_TOKEN  the token that a command is about
  PANTHEON_AUTH_DATA_DIR       the data folder, and every other setting of the server, as PANTHEON_AUTH_DATABASE_URL

Examples:
  $ pantheon-auth serve
  $ pantheon-auth keys create --user user-1 --name deploy --permission deploy:run --out deploy.key
  $ pantheon-auth keys verify --permission deploy:run < deploy.key
  $ pantheon-auth token exchange < deploy.key`,
    )
    .addHelpText('afterAll', EXIT_CODES_HELP);
  addServeCommand(program, context, finish);
  addStoreCommands(program, context, finish);
  addIdTagCommands(program, context, finish);
  addClockCommands(program, context, finish);
  addKeysCommands(program, context, finish);
  addTenantsCommands(program, context, finish);
  addTokenCommands(program, context, finish);
  addSigningKeysCommands(program, context, finish);
  return program;
}

/** The message of commander repeats the argument, which may be a secret, so only the kind of error is used. */
function toUsageError({ code, message }: CommanderError): PantheonError {
  const [, own] =
    /^error: ((?:missing required argument|required option|option) '[a-z0-9 <>.,-]{1,60}'[a-z ]{0,40})$/.exec(
      message,
    ) ?? [];
  const known = own === undefined ? USAGE[code] : `${own.charAt(0).toUpperCase()}${own.slice(1)}`;
  return new PantheonError('invalid_request', {
    detail: `${known ?? 'The command line is not valid'} — See the command with --help`,
  });
}

const USAGE: Readonly<Record<string, string>> = {
  'commander.unknownOption': 'There is no such option here',
  'commander.unknownCommand': 'There is no such command',
  'commander.excessArguments': 'There are more arguments than this command takes',
  'commander.help': 'A command is missing',
};

function versionOfPackage(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}
