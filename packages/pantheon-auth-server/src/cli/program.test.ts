import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { APIKeyGenerator } from 'pantheon-auth';
import { expect, onTestFinished, test } from 'vitest';
import { loadClientVariables } from '../settings/config.ts';
import { EXIT, EXIT_CODES_HELP } from './exit-codes.ts';
import { run } from './program.ts';

const { key: KEY } = new APIKeyGenerator().generateKey();
const ID = KEY.slice(9, 25);

async function cli(args: readonly string[], stdin = '', environment: Readonly<Record<string, string>> = {}) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const input = Object.assign(Readable.from([stdin]), { isTTY: false }) as unknown as NodeJS.ReadStream;
  const variables = loadClientVariables(environment);
  const code = await run(args, { stdin: input, stdout, stderr, variables, environment });
  stdout.end();
  stderr.end();
  return { code, out: await text(stdout), err: await text(stderr) };
}

const COMMANDS = [
  ...['serve', 'migrate', 'bootstrap', 'clock accept', 'id-tags list', 'id-tags add', 'id-tags retire'],
  ...['create', 'list', 'get', 'verify', 'update', 'rotate', 'revoke', 'suspend', 'resume', 'versions'].map(
    (verb) => `keys ${verb}`,
  ),
  ...['get', 'update'].map((verb) => `tenants ${verb}`),
  ...['exchange', 'sign', 'verify', 'inspect'].map((verb) => `token ${verb}`),
];

test.each(COMMANDS)('the help of `%s` says how to use it and what its exit codes mean', async (command) => {
  const { code, out, err } = await cli([...command.split(' '), '--help']);
  expect(code).toBe(EXIT.ok);
  expect(err).toBe('');
  expect(out).toContain(`Usage: pantheon-auth ${command}`);
  expect(out).toContain(EXIT_CODES_HELP.trim());
});

test.each([
  ['URL', '"https://auth.example.com"'],
  ['URL', 'https://auth.example.com\r'],
  ['KEY_FILE', '~/my.key'],
  ['KEY_FILE', '\ufeffmy.key'],
])('an unknown variable of the command line is reported with the known one: %s=%j', async (name, value) => {
  const environment = { PANTHEON_AUTH_URL: 'http://localhost:1', [`PANTHEON_AUTH_${name}`]: value };
  const { code, err } = await cli(['keys', 'list'], '', environment);
  expect(code).toBe(EXIT.usage);
  expect(err).toMatch(new RegExp(`^pantheon-auth: invalid_setting: .*\\(${name}\\)`));
  expect(err).not.toContain(value);
  expect((await cli(['--help'], '', environment)).code).toBe(EXIT.ok);
});

test('without a command, and with --help, it lists the commands', async () => {
  for (const args of [[], ['--help'], ['keys', '--help'], ['help', 'keys']]) {
    expect(await cli(args)).toMatchObject({ code: EXIT.ok, err: '', out: expect.stringContaining('Usage: ') });
  }
  expect((await cli(['--version'])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test.each([
  [['kyes'], 'There is no such command'],
  [['keys'], 'A command is missing'],
  [['keys', 'list', '--bogus=hunter2'], 'There is no such option here'],
  [['keys', 'get'], "Missing required argument 'id'"],
  [['keys', 'get', ID, 'hunter2'], 'There are more arguments than this command takes'],
  [['keys', 'create', '--user', 'u'], "Required option '--name <text>' not specified"],
  [['keys', 'create', '--user'], "Option '--user <id>' argument missing"],
] as const)('%j is a usage error in one line, which repeats nothing of the input', async (args, what) => {
  const { code, out, err } = await cli(args);
  expect({ code, out }).toEqual({ code: EXIT.usage, out: '' });
  expect(err).toBe(`pantheon-auth: invalid_request: ${what} — See the command with --help\n`);
  const asJson = await cli([...args, '--json']);
  expect(JSON.parse(asJson.err)).toMatchObject({ status: 400, code: 'invalid_request' });
});

test.each([
  ['verify', KEY],
  ['list', '--user', KEY],
  ['verify', `--key=${KEY}`],
  ['revoke', ID, '--reason', `it was ${KEY}`],
  [`${KEY}`],
])('a secret among the arguments is refused before anything is done, and not repeated: %#', async (...args) => {
  const { code, out, err } = await cli(['keys', ...args]);
  expect({ code, out }).toEqual({ code: EXIT.usage, out: '' });
  expect(err).toContain('looks like a key');
  expect(err).not.toContain(KEY.slice(25));
});

const CREATE = ['keys', 'create', '--user', 'u', '--name', 'n'];

test.each([
  [['keys', 'get', '../tenants'], 'id'],
  [['keys', 'revoke', `${ID}x`], 'id'],
  [['keys', 'rotate', ID, '--expected-version', 'two'], 'expected-version'],
  [['keys', 'verify', '--cost', '-1'], 'cost'],
  [[...CREATE, '--rate-limit', '100/1m'], 'rate-limit[0]'],
  [[...CREATE, '--rate-limit', 'a=1/1m', 'b=x/1m'], 'rate-limit[1]'],
  [[...CREATE, '--quota', '1000'], 'quota'],
  [[...CREATE, '--metadata', '{"a":1,"a":2}'], 'metadata'],
  [[...CREATE, '--claims', '{'], 'claims'],
  [[...CREATE, '--metadata', '@/nowhere.json'], 'metadata'],
  [[...CREATE, '--out', '/nowhere/key'], 'out'],
  [[...CREATE, '--idempotency-key', 'two words'], 'idempotency-key'],
  [[...CREATE, '--tenant', 'a\nb'], 'pantheon-tenant'],
  [['keys', 'list', '--url', 'http://localhost:1', '--data-dir', 'data'], 'url'],
  [['keys', 'list', '--url', 'ftp://localhost'], 'URL'],
  [['keys', 'list', '--url', 'http://user:pass@localhost'], 'URL'],
  [['keys', 'list', '--url', 'http://auth.example.com'], 'URL'],
  [['token', 'exchange', '--ttl', 'soon'], 'ttl'],
  [['token', 'sign'], 'issuer'],
  [['token', 'sign', '--issuer', 'https://a.example', '--ttl', '10m'], 'ttl'],
  [['token', 'sign', '--issuer', 'https://a.example', '--permission', 'No'], 'permissions[0]'],
] as const)('%j is refused with the reason and does nothing', async (args, field) => {
  const { code, out, err } = await cli([...args, '--json'], KEY);
  expect({ code, out }).toEqual({ code: EXIT.usage, out: '' });
  expect(JSON.parse(err)).toMatchObject({ field });
});

test('a wrong setting is refused with its field and no file is created', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pantheon-program-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const dataDir = join(folder, 'data');
  const { code, err } = await cli(['keys', 'list', '--data-dir', dataDir], '', { PANTHEON_AUTH_PORT: 'eighty' });
  expect(code).toBe(EXIT.usage);
  expect(err).toMatch(/^pantheon-auth: invalid_setting: .* \(PORT\) — /);
  for (const [flag, field] of [
    ['--database-url=postgres://user:hunter2@db/auth', 'DATABASE_URL'],
    ['--database-url=postgres://db/auth?password=hunter2', 'DATABASE_URL'],
    ['--redis-url=redis://a,redis://:hunter2@b', 'REDIS_URL'],
  ] as const) {
    const served = await cli(['serve', '--data-dir', dataDir, flag]);
    expect(served.code).toBe(EXIT.usage);
    expect(served.err).toMatch(new RegExp(`^pantheon-auth: invalid_setting: It holds a password.* use .*${field}`));
    expect(served.err).not.toContain('hunter2');
  }
  expect(existsSync(dataDir)).toBe(false);
});

test('a server is called only with a key', async () => {
  const { code, err } = await cli(['keys', 'list', '--url', 'https://auth.example.com']);
  expect(code).toBe(EXIT.notAllowed);
  expect(err).toContain('missing_credential');
});

test('inspecting a token prints its claims, clearly marked as unverified, and without its signature', async () => {
  const signed = await cli(['token', 'sign', '--issuer', 'https://a.example', '--permission', 'a:b', '--json'], KEY);
  const { token, expiresInSeconds } = JSON.parse(signed.out) as { token: string; expiresInSeconds: number };
  expect(expiresInSeconds).toBe(300);
  const { code, out, err } = await cli(['token', 'inspect'], token);
  expect(code).toBe(EXIT.ok);
  expect(err).toMatch(/^Warning: NOT VERIFIED\. /);
  expect(out).toMatch(/^header alg +HS256$/m);
  expect(out).toMatch(/^exp +\d+ \(\d{4}-\d\d-\d\dT/m);
  expect(out).not.toContain('valid');
  const asJson = await cli(['token', 'inspect', '--json'], token);
  expect(JSON.parse(asJson.out)).toMatchObject({ verified: false, header: { alg: 'HS256' }, payload: { sub: ID } });
  expect(asJson.err).toContain('NOT VERIFIED');
  expect(asJson.out).not.toContain(token.split('.')[2]);
});

test('the issuer of a signed token is the given server, unless it is set', async () => {
  const signed = await cli(['token', 'sign', '--url', 'https://a.example', '--permission', '*'], KEY);
  const inspected = await cli(['token', 'inspect', '--json'], signed.out);
  expect(JSON.parse(inspected.out).payload).toMatchObject({ iss: 'https://a.example', aud: 'https://a.example' });
});

test.each([
  'not a token',
  'a.b',
  'a.b.c.d',
  'e30.W10.c2ln',
  'e30.e30=.c2ln',
  `${Buffer.from('{"a":1,"a":2}').toString('base64url')}.e30.c2ln`,
])('a text that is not a token is not shown as one: %j', async (input) => {
  const { code, out } = await cli(['token', 'inspect'], input);
  expect({ code, out }).toEqual({ code: EXIT.usage, out: '' });
});

test('the claims of a token cannot control the terminal, and an invalid time is shown as it is', async () => {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const token = `${part({ alg: 'none' })}.${part({ exp: 1e300, iat: 'x', name: 'a\u001b[2J\nb' })}.c2ln`;
  const { out } = await cli(['token', 'inspect'], token);
  expect(out).toMatch(/^exp +1e\+300$/m);
  expect(out).toMatch(/^name +a\\u001b\[2J\\u000ab$/m);
});

test('an invalid key is refused before any request', async () => {
  const { code, err } = await cli(['token', 'exchange', '--url', 'https://auth.example.com'], KEY.slice(0, -1));
  expect(code).toBe(EXIT.usage);
  expect(err).toContain('(key)');
});
