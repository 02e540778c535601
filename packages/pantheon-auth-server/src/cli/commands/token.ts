/** `pantheon-auth token …`: exchanges a key for a token, signs one offline, verifies or inspects a token. */
import type { Command } from 'commander';
import {
  ANY_ENVIRONMENT,
  ANY_TENANT,
  mintKeyToken,
  type PantheonAuth,
  PantheonError,
  parseDuration,
  parseKey,
  type Secret,
} from 'pantheon-auth';
import { sayVerdict } from '../answers.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { ApiRefusal } from '../failure.ts';
import { type CliContext, type ConnectionOptions, runCommand, withConnection } from '../session.ts';
import { decodeToken, tokenFacts } from '../token-view.ts';
import { call, type JsonBody, type Transport } from '../transport.ts';
import { invalid } from './arguments.ts';

type Add = (token: Command, context: CliContext, finish: (code: ExitCode) => void) => void;

export const addTokenCommands: Add = (program, context, finish) => {
  const token = program.command('token').description('tokens (JWT): exchange a key for one, sign, verify, inspect');
  addExchange(token, context, finish);
  addSign(token, context, finish);
  addVerify(token, context, finish);
  addInspect(token, context, finish);
};

interface ExchangeOptions extends ConnectionOptions {
  readonly keyFile?: string;
  readonly audience?: readonly string[];
  readonly permission?: readonly string[];
  readonly ttl?: string;
}

const KEY_FILE_HELP = 'the key; else PANTHEON_AUTH_SUBJECT_KEY; else standard input';
const TOKEN_FILE_HELP = 'the token; else PANTHEON_AUTH_SUBJECT_TOKEN; else standard input';

const addExchange: Add = (token, context, finish) => {
  const exchange = token
    .command('exchange')
    .description('exchange a key for a token, which is printed alone on standard output')
    .option('--key-file <file>', KEY_FILE_HELP)
    .option('--audience <name...>', 'audiences of the token; the policy of the key must allow them')
    .option(
      '--permission <pattern...>',
      'permissions of the token; default: all of the key except those under pantheon:',
    )
    .option('--ttl <duration>', 'lifetime, such as 5m; never beyond the expiry of the key')
    .addHelpText(
      'after',
      '\nExample:\n  $ pantheon-auth token exchange --permission orders:read --ttl 5m < orders.key',
    );
  runCommand<ExchangeOptions>(withConnection(exchange), context, finish, async (session, options) => {
    const { audience = [], permission, ttl } = options;
    const secret = await session.secret('key', options.keyFile);
    const form = new URLSearchParams({ grant_type: 'client_credentials' });
    for (const one of audience) form.append('audience', one);
    if (permission !== undefined) form.set('scope', permission.join(' '));
    if (ttl !== undefined) form.set('ttl', String(toSeconds(ttl)));
    // The key authenticates itself as OAuth client, so no other key is needed.
    const credential = { scheme: 'basic', id: keyIdOf(secret), secret } as const;
    const answer = await call(await session.connect(), 'POST', '/oauth2/token', { body: form, credential });
    assertNotLonger(Number(answer['expires_in']), ttl);
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

const addSign: Add = (token, context, finish) => {
  const sign = token
    .command('sign')
    .description('sign a token with the key itself, offline (HS256); only the service can verify it')
    .option('--key-file <file>', KEY_FILE_HELP)
    .option('--issuer <url>', 'the public URL of the service; default: the --url or PANTHEON_AUTH_URL')
    .option('--audience <name...>', 'audiences of the token; default: the issuer')
    .option('--permission <pattern...>', "permissions of the token; '*' for all of the key; default: none")
    .option('--ttl <duration>', 'lifetime, at most 300s (default)')
    .option('--url <url>', 'URL of the service, if it is also the issuer')
    .option('--json', 'print { token, expiresInSeconds }')
    .addHelpText(
      'after',
      `
The key must have been created with --jwt-algorithm HS256. Nothing is sent anywhere.

Example:
  $ pantheon-auth token sign --issuer https://auth.example.com --permission orders:read < orders.key`,
    );
  runCommand<SignOptions>(sign, context, finish, async (session, options) => {
    const { output } = session;
    const secret = await session.secret('key', options.keyFile);
    const issuer = options.issuer ?? session.url;
    if (issuer === null) throw invalid('issuer', 'Give the public URL of the service: --issuer');
    const { permission: permissions = [], audience = [issuer], ttl = '300s' } = options;
    const ttlSeconds = toSeconds(ttl);
    const key = secret.reveal();
    const signed = mintKeyToken({ key, keyPrefix: keyPrefixOf(key), issuer, audience, permissions, ttlSeconds });
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

const addVerify: Add = (token, context, finish) => {
  const verify = token
    .command('verify')
    .description('verify a token and its key: exit code 0 if it is accepted, 1 if it is denied')
    .option('--token-file <file>', TOKEN_FILE_HELP)
    .option('--audience <name...>', 'audiences to accept; default: those of the service (data folder only)')
    .option('--permission <name...>', 'permissions that it must have (data folder only)')
    .addHelpText(
      'after',
      `
On the data folder the engine verifies the token. With a server, the server does: the token is shown at GET /v1/self,
which takes tokens whose audience is the server itself.

Example:
  $ pantheon-auth token exchange < orders.key | pantheon-auth token verify`,
    );
  runCommand<VerifyOptions>(withConnection(verify), context, finish, async (session, options) => {
    const secret = await session.secret('token', options.tokenFile);
    const transport = await session.connect();
    if (transport.engine !== null)
      return sayVerdict(session, await askEngine(transport.engine, secret.reveal(), options));
    for (const option of ['audience', 'permission'] as const)
      if (options[option] !== undefined)
        throw invalid(option, 'Only on the data folder: a server uses its own audience and no permissions');
    const verdict = await askServer(transport, secret);
    session.output.note(`The service at ${session.url} verified it, with the state of its key.`);
    return sayVerdict(session, verdict);
  });
};

/** The token is accepted from every tenant and environment: the question is only whether it is still valid. */
const ANYWHERE = { tenant: ANY_TENANT, environment: ANY_ENVIRONMENT } as const;

/** Verifies with the engine on the data folder, also for other audiences than that of the service. */
async function askEngine(engine: PantheonAuth, presented: string, options: VerifyOptions): Promise<JsonBody> {
  const { audience, permission: permissions } = options;
  const wanted = { ...(audience && { audience }), ...(permissions && { permissions }) };
  const verification = await engine.tokens.verify({ token: presented, ...ANYWHERE, ...wanted });
  if (!verification.valid) {
    const { secretVerified, denial } = verification;
    return { valid: false, code: secretVerified ? denial.code : 'invalid_key' };
  }
  const { tokenId, kind, audience: forWhom, permissions: granted, expiresAt } = verification.token;
  const token = { tokenId, kind, audience: forWhom, permissions: granted, expiresAt: new Date(expiresAt) };
  return { valid: true, ...holderOf({ ...verification.key, id: verification.key.keyId }), token };
}

/**
 * Verifies by calling `/v1/self` of a server with the token. An error status of the kind below means that it is not
 * valid; any other means that the result is unknown.
 */
async function askServer(transport: Transport, secret: Secret): Promise<JsonBody> {
  try {
    const self = await call(transport, 'GET', '/v1/self', { credential: { scheme: 'bearer', secret } });
    return { valid: true, ...holderOf(self) };
  } catch (error) {
    if (error instanceof ApiRefusal && VERDICTS.has(error.status)) return { valid: false, code: error.body['code'] };
    throw error;
  }
}

/** Statuses that are about the credential. */
const VERDICTS: ReadonlySet<number> = new Set([401, 403, 429]);

/** The key and user of the token. */
function holderOf({ id: keyId, userId, tenantId, name, environment }: JsonBody): JsonBody {
  return { keyId, userId, tenantId, name, environment };
}

const addInspect: Add = (token, context, finish) => {
  const inspect = token
    .command('inspect')
    .description('show the content of a token WITHOUT verifying it')
    .option('--token-file <file>', TOKEN_FILE_HELP)
    .option('--json', 'print { verified: false, header, payload }')
    .addHelpText('after', '\nExample:\n  $ pantheon-auth token inspect < token.jwt');
  runCommand<VerifyOptions>(inspect, context, finish, async (session, options) => {
    const { output } = session;
    const decoded = decodeToken((await session.secret('token', options.tokenFile)).reveal());
    if (decoded === null)
      throw invalid('token', 'It is not a JWT: three parts of base64url, with JSON in the first two');
    output.warn('NOT VERIFIED. Anyone can write such a token. To verify it: pantheon-auth token verify');
    if (output.json) output.answer({ verified: false, ...decoded });
    else output.facts(tokenFacts(decoded));
    return EXIT.ok;
  });
};

/**
 * A server may ignore the parameter `ttl` (RFC 6749 section 3.2). A token with a longer lifetime than requested is not
 * printed.
 */
function assertNotLonger(expiresInSeconds: number, ttl: string | undefined): void {
  if (ttl === undefined || expiresInSeconds <= toSeconds(ttl)) return;
  const detail = `The service would issue a token with a lifetime of ${expiresInSeconds} seconds`;
  throw new PantheonError('not_allowed', { field: 'ttl', detail });
}

/** The id in the key string, which is public and is the OAuth client id. */
function keyIdOf(secret: Secret): string {
  const key = secret.reveal();
  const parsed = parseKey(key, keyPrefixOf(key));
  if (parsed === null) throw invalid('key', 'It is not a key string: check that it was copied completely');
  return parsed.id;
}

/** The part before the first underscore. */
function keyPrefixOf(key: string): string {
  return key.slice(0, Math.max(0, key.indexOf('_')));
}

function toSeconds(text: string): number {
  const seconds = parseDuration(/^\d{1,9}$/.test(text) ? Number(text) : text);
  if (seconds === null) throw invalid('ttl', 'Write 5m, 300s or whole seconds');
  return seconds;
}
