/** `pantheon-auth signing-keys list|rotate|retire`: the keys that sign tokens. Needs a key of the system tenant. */
import type { Command } from 'commander';
import type { ExitCode } from '../exit-codes.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliContext, type ConnectionOptions, runCommand, type Session, withConnection } from '../session.ts';
import { call } from '../transport.ts';
import { invalid } from './arguments.ts';

interface RetireOptions extends ConnectionOptions {
  readonly compromised?: boolean;
}

/** As the API answers it. Of a damaged one only the kid is always known. */
interface SigningKey {
  readonly kid: string;
  readonly algorithm?: string;
  readonly state?: string;
  readonly quarantined?: true;
  readonly createdAt?: string;
  readonly signsFrom?: string;
  readonly unusedFrom?: string;
}

const PATH = '/v1/signing-keys';

export function addSigningKeysCommands(program: Command, context: CliContext, finish: (code: ExitCode) => void): void {
  const group = program
    .command('signing-keys')
    .description('the keys that sign tokens: list, rotate, retire')
    .addHelpText(
      'after',
      `
Examples:
  $ pantheon-auth signing-keys list
  $ pantheon-auth signing-keys rotate ES256
  $ pantheon-auth signing-keys retire NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs --compromised`,
    );

  const list = group
    .command('list')
    .description('list the signing keys that are not retired, newest first, then damaged ones');
  runCommand<ConnectionOptions>(withConnection(list), context, finish, async (session) => {
    return show(session, await call(await session.connect(), 'GET', PATH, { headers: session.headers() }));
  });

  const rotate = group
    .command('rotate')
    .description('replace the signing key of an algorithm by its standby key; tokens that it signed stay valid')
    .argument('<algorithm>', 'ES256, Ed25519 or RS256');
  runCommand<ConnectionOptions>(withConnection(rotate), context, finish, async (session, _options, [algorithm]) => {
    const request = { body: { algorithm }, headers: session.headers() };
    const next = await call(await session.connect(), 'POST', PATH, request);
    return show(session, { items: [next] }, next);
  });

  const retire = group
    .command('retire')
    .description('retire a signing key now: every token that it signed is refused; the standby key replaces it')
    .argument('<kid>', 'as `signing-keys list` shows it')
    .option(
      '--compromised',
      'its private key may be known to others: retire all of its algorithm; no tokens of it for six minutes',
    );
  runCommand<RetireOptions>(withConnection(retire), context, finish, async (session, { compromised }, [kid = '']) => {
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(kid)) throw invalid('kid', 'Write a kid that signing-keys list shows');
    const request = { body: compromised === true ? { compromised } : {}, headers: session.headers() };
    return show(session, await call(await session.connect(), 'POST', `${PATH}/${kid}/retire`, request));
  });
}

/** `answer`: what is printed with `--json`, if it is not the list. */
function show({ output }: Session, list: unknown, answer: unknown = list): ExitCode {
  const { items } = list as { readonly items: readonly SigningKey[] };
  if (output.json) output.answer(answer as object);
  else
    output.table(
      ['kid', 'algorithm', 'state', 'signs from', 'ends'],
      items.map(({ kid, algorithm, state, quarantined, signsFrom, unusedFrom }) => [
        kid,
        algorithm ?? '',
        quarantined === true ? 'quarantined' : (state ?? ''),
        signsFrom ?? '',
        unusedFrom ?? '',
      ]),
    );
  return EXIT.ok;
}
