/** `pantheon-auth token …`: a key becomes a token, by the service or offline; a token is verified, or only looked at. */
import type { Command } from 'commander';
import { mintKeyToken, parseDuration, parseKey, type Secret } from 'pantheon-auth';
import { sayVerdict } from '../answers.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { act, type ConnectionOptions, type Session, type Surroundings, withConnection } from '../session.ts';
import { decodeToken, timeFacts } from '../token-view.ts';
import { call, type JsonBody } from '../transport.ts';
import { invalid } from './arguments.ts';

type Add = (token: Command, world: Surroundings, finish: (code: ExitCode) => void) => void;

export const addTokenCommands: Add = (program, world, finish) => {
  const token = program.command('token').description('tokens (JWT): exchange a key for one, sign, verify, look at');
  addExchange(token, world, finish);
  addSign(token, world, finish);
  addVerify(token, world, finish);
  addInspect(token, world, finish);
};

interface ExchangeOptions extends ConnectionOptions {
  readonly keyFile?: string;
  readonly audience?: readonly string[];
  readonly permission?: readonly string[];
  readonly ttl?: string;
}

const KEY_FILE_HELP = 'the key; else PANTHEON_AUTH_SUBJECT_KEY; else standard input';
const TOKEN_FILE_HELP = 'the token; else PANTHEON_AUTH_SUBJECT_TOKEN; else standard input';

const addExchange: Add = (token, world, finish) => {
  const exchange = token
    .command('exchange')
    .description('exchange a key for a token of it, printed alone on standard output')
    .option('--key-file <file>', KEY_FILE_HELP)
    .option('--audience <name...>', 'for whom the token is; the policy of the key must allow it')
    .option('--permission <pattern...>', 'what the token may do; default: all that the key may')
    .option('--ttl <duration>', 'how long it lives, as in 5m; never beyond the key')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth token exchange --permission orders:read --ttl 5m < orders.key');
  act<ExchangeOptions>(withConnection(exchange), world, finish, async (session, options) => {
    const { audience = [], permission, ttl } = options;
    const secret = await session.secret('key', options.keyFile);
    const form = new URLSearchParams({ grant_type: 'client_credentials' });
    for (const one of audience) form.append('audience', one);
    if (permission !== undefined) form.set('scope', permission.join(' '));
    if (ttl !== undefined) form.set('ttl', String(toSeconds(ttl)));
    // The key shows itself: whoever runs this needs no other.
    const credential = { scheme: 'basic', id: keyIdOf(secret), secret } as const;
    const answer = await call(await session.connect(), 'POST', '/oauth2/token', { body: form, credential });
    const { output } = session;
    if (output.json) output.answer(answer);
    else {
      output.note(`It expires in ${String(answer['expires_in'])} seconds.`);
      output.line(String(answer['access_token']));
    }
    return EXIT.ok;
  });
};

interface SignOptions extends ExchangeOptions {
  readonly issuer?: string;
}

const addSign: Add = (token, world, finish) => {
  const sign = token
    .command('sign')
    .description('sign a token with the key itself, offline (HS256); the service has to verify it')
    .option('--key-file <file>', KEY_FILE_HELP)
    .option('--issuer <url>', 'the public URL of the service; default: the --url or PANTHEON_AUTH_URL')
    .option('--audience <name...>', 'for whom the token is; default: the issuer')
    .option('--permission <pattern...>', "what it may do; '*' is all that the key may; default: nothing")
    .option('--ttl <duration>', 'how long it lives, at most 300s (default)')
    .option('--url <url>', 'the service, where that is its issuer too')
    .option('--json', 'print { token, expiresInSeconds }')
    .addHelpText(
      'after',
      `
The key must have been created with --jwt-algorithm HS256. Nothing is sent anywhere.

Example:
  $ pantheon-auth token sign --issuer https://auth.example.com --permission orders:read < orders.key`,
    );
  act<SignOptions>(sign, world, finish, async (session, options) => {
    const { output } = session;
    const secret = await session.secret('key', options.keyFile);
    const issuer = options.issuer ?? session.url;
    if (issuer === null) throw invalid('issuer', 'Give the public URL of the service: --issuer');
    const { permission: permissions = [], audience = [issuer], ttl = '300s' } = options;
    const ttlSeconds = toSeconds(ttl);
    const key = secret.reveal();
    const signed = mintKeyToken({ key, brand: brandOf(key), issuer, audience, permissions, ttlSeconds });
    if (permissions.length === 0) output.warn('Without --permission the token grants nothing.');
    if (output.json) output.answer({ token: signed, expiresInSeconds: ttlSeconds });
    else output.line(signed);
    return EXIT.ok;
  });
};

interface VerifyOptions extends ConnectionOptions {
  readonly tokenFile?: string;
  readonly audience?: readonly string[];
  readonly permission?: readonly string[];
}

const addVerify: Add = (token, world, finish) => {
  const verify = token
    .command('verify')
    .description('ask whether a token may act now, with the state of its key: exit code 0 is yes, 1 is no')
    .option('--token-file <file>', TOKEN_FILE_HELP)
    .option('--audience <name...>', "who is asked; default: the service's own audience (data folder only)")
    .option('--permission <name...>', 'what it has to be allowed (data folder only)')
    .addHelpText(
      'after',
      `
On the data folder the engine verifies the token. With a server, the server does: the token is shown at GET /v1/self.

Example:
  $ pantheon-auth token exchange < orders.key | pantheon-auth token verify`,
    );
  act<VerifyOptions>(withConnection(verify), world, finish, async (session, options) => {
    const secret = await session.secret('token', options.tokenFile);
    const verdict = session.url === null ? await askEngine(session, secret, options) : await askServer(session, secret, options);
    return sayVerdict(session, verdict);
  });
};

async function askEngine(session: Session, secret: Secret, options: VerifyOptions): Promise<JsonBody> {
  const { audience, permission: permissions } = options;
  const local = await session.local();
  const verification = await local.auth.tokens.verify({
    token: secret.reveal(),
    tenant: 'any',
    environment: 'any',
    ...(audience && { audience }),
    ...(permissions && { permissions }),
  });
  return verification;
}
