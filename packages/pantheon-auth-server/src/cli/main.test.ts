/** The command line as a process of its own, on data folders and against a server that runs beside it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { createPantheonAuth } from 'pantheon-auth';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { loadClientVariables } from '../settings/config.ts';
import { EXIT } from './exit-codes.ts';
import { run } from './program.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const NODE_ARGUMENTS = ['--conditions=source', MAIN];

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface Given {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
}

let folder = '';
let port = 0;
let server: ChildProcess;
/** All that was ever written to a standard error here, and all keys that were made. */
const errors: string[] = [];
const keys: string[] = [];

function start(args: readonly string[], env: Given['env'] = {}): ChildProcess {
  return spawn(process.execPath, [...NODE_ARGUMENTS, ...args], {
    cwd: folder,
    env: { PANTHEON_AUTH_DATA_DIR: dataDir(), PANTHEON_AUTH_PORT: String(port), ...env },
  });
}

async function cli(args: readonly string[], { stdin = '', env }: Given = {}): Promise<Ended> {
  const child = start(args, env);
  let out = '';
  let err = '';
  child.stdout?.setEncoding('utf8').on('data', (part: string) => {
    out += part;
  });
  child.stderr?.setEncoding('utf8').on('data', (part: string) => {
    err += part;
  });
  // Who refuses its arguments does not read.
  child.stdin?.on('error', () => {}).end(stdin);
  const [code] = (await once(child, 'close')) as [number | null];
  errors.push(err);
  return { code, out, err };
}

/** The same without a process: for what does not depend on there being one. */
async function inside(args: readonly string[], { stdin = '', env = {} }: Given = {}): Promise<Ended> {
  const environment = { PANTHEON_AUTH_DATA_DIR: dataDir(), PANTHEON_AUTH_PORT: String(port), ...env };
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const input = Object.assign(Readable.from([stdin]), { isTTY: false }) as unknown as NodeJS.ReadStream;
  const variables = loadClientVariables(environment);
  const code = await run(args, { stdin: input, stdout, stderr, variables, environment });
  stdout.end();
  stderr.end();
  const ended = { code, out: await text(stdout), err: await text(stderr) };
  errors.push(ended.err);
  return ended;
}

const dataDir = (): string => join(folder, 'data');
const rootKeyFile = (): string => join(dataDir(), 'root.key');
const url = (): string => `http://localhost:${port}`;

/** The same commands, over the network and on the data folder. */
const TRANSPORTS = {
  local: () => ({}),
  remote: () => ({ PANTHEON_AUTH_URL: url(), PANTHEON_AUTH_KEY_FILE: rootKeyFile() }),
} as const;

function json(text: string): Record<string, unknown> {
  return JSON.parse(text) as Record<string, unknown>;
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port: free } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return free;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pantheon-cli-'));
  port = await freePort();
  server = start(['serve', '--log-level', 'warn']);
  server.stderr?.setEncoding('utf8').on('data', (part: string) => errors.push(part));
  const { stdout } = server;
  if (stdout === null) throw new Error('the output of the server can be read');
  // One line is read, and then nobody reads any more: the service goes on.
  for await (const line of createInterface(stdout)) if (line.includes('root.key')) break;
  keys.push(readFileSync(rootKeyFile(), 'utf8').trim());
}, 30_000);

afterAll(async () => {
  server.kill('SIGTERM');
  if (server.exitCode === null) await once(server, 'exit');
  rmSync(folder, { recursive: true, force: true });
}, 30_000);

describe.each(['local', 'remote'] as const)('over the %s transport', (name) => {
  const env = (): Record<string, string> => TRANSPORTS[name]();

  async function create(...more: string[]): Promise<{ key: string; id: string }> {
    const created = await inside(
      ['keys', 'create', '--user', 'user-1', '--name', 'deploy', '--permission', 'deploy:run', ...more],
      { env: env() },
    );
    expect(created).toMatchObject({ code: EXIT.ok });
    const key = created.out.trim();
    keys.push(key);
    return { key, id: key.slice(9, 25) };
  }

  test('a key is created, verified, exchanged, rotated and revoked, and each step has the same output', async () => {
    const { key, id } = await create('--rate-limit', 'requests=100/1m', '--quota', '1000/day');

    const yes = await cli(['keys', 'verify', '--permission', 'deploy:run', '--json'], { stdin: key, env: env() });
    expect(yes).toMatchObject({ code: EXIT.ok, err: '' });
    expect(json(yes.out)).toMatchObject({ valid: true, keyId: id, version: 1, userId: 'user-1' });
    const no = await cli(['keys', 'verify', '--permission', 'deploy:stop'], { stdin: key, env: env() });
    expect(no).toMatchObject({ code: EXIT.refused, err: '' });
    expect(no.out).toContain('not valid: insufficient_permissions. The key lacks a permission.');

    const exchanged = await cli(['token', 'exchange'], { stdin: key, env: env() });
    expect(exchanged).toMatchObject({ code: EXIT.ok });
    expect(exchanged.out).toMatch(/^eyJ[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const token = exchanged.out;
    const alive = await cli(['token', 'verify', '--json'], { stdin: token, env: env() });
    expect(alive.code).toBe(EXIT.ok);
    const holder = { keyId: id, environment: 'live' };
    expect(json(alive.out)).toMatchObject({ valid: true, ...holder });
    // Over HTTP it is the token that asks, and of its key it is told no more than it may know.
    const byWhoReadsTheStore = { userId: 'user-1', tenantId: 'default', name: 'deploy' };
    for (const [member, value] of Object.entries(byWhoReadsTheStore))
      expect(json(alive.out)[member], member).toBe(name === 'local' ? value : undefined);

    const rotated = await cli(['keys', 'rotate', id, '--overlap', '0s'], { env: env() });
    expect(rotated.code).toBe(EXIT.ok);
    const next = rotated.out.trim();
    keys.push(next);
    expect(next.slice(0, 25)).toBe(key.slice(0, 25));
    expect(next).not.toBe(key);
    const versions = await cli(['keys', 'versions', id, '--json'], { env: env() });
    expect(json(versions.out)['items']).toMatchObject([
      { version: 2, state: 'current' },
      { version: 1, state: 'retired' },
    ]);
    const retired = await cli(['keys', 'verify', '--json'], { stdin: key, env: env() });
    expect(retired.code).toBe(EXIT.refused);
    expect(json(retired.out)).toMatchObject({ valid: false, code: 'version_retired' });

    const revoked = await cli(['keys', 'revoke', id, '--reason', 'test is over', '--json'], { env: env() });
    expect(revoked).toMatchObject({ code: EXIT.ok, err: '' });
    expect(json(revoked.out)).toMatchObject({ id, state: 'revoked', stateReason: 'test is over', isActive: false });
    const dead = await cli(['keys', 'verify', '--json'], { stdin: next, env: env() });
    expect(dead.code).toBe(EXIT.refused);
    expect(json(dead.out)).toEqual({ valid: false, code: 'revoked' });
    expect(await cli(['token', 'verify'], { stdin: token, env: env() })).toMatchObject({ code: EXIT.refused });
    const again = await cli(['token', 'exchange'], { stdin: next, env: env() });
    expect(again).toMatchObject({ code: EXIT.notAllowed, out: '' });
    expect(again.err).toMatch(/^pantheon-auth: invalid_client: /);
  }, 120_000);

  test('revoking a stolen key with --cascade lists what it acted on, and with --cascade-acted revokes that too', async () => {
    const stolen = await create('--permission', 'pantheon:keys:*', '--grantable', 'deploy:*');
    const acted = await create();
    const untouched = await create();
    const file = join(folder, `stolen-${name}.key`);
    writeFileSync(file, stolen.key, { mode: 0o600 });
    const asThief = ['--caller-key-file', file];
    const rotated = await inside(['keys', 'rotate', acted.id, ...asThief], { env: env() });
    expect(rotated).toMatchObject({ code: EXIT.ok });
    keys.push(rotated.out.trim());
    const revoke = async (...more: string[]) =>
      json((await inside(['keys', 'revoke', stolen.id, '--json', ...more], { env: env() })).out);
    const stateOf = async (id: string) =>
      json((await inside(['keys', 'get', id, '--json'], { env: env() })).out)['state'];

    const item = { keyId: acted.id, tenantId: 'default', did: ['rotated'] };
    expect(await revoke()).not.toHaveProperty('actedOn');
    const named = await revoke('--cascade');
    expect(named).toMatchObject({
      state: 'revoked',
      actedOn: { items: [{ ...item, revoked: false }], complete: true },
    });
    expect(await stateOf(acted.id)).toBe('active');
    const told = await inside(['keys', 'revoke', stolen.id, '--cascade'], { env: env() });
    expect(told.out).toMatch(new RegExp(`^actedOn .*${acted.id}`, 'm'));

    // The stricter of the two is what is done when both are asked for.
    const taken = await revoke('--cascade', '--cascade-acted');
    expect(taken).toMatchObject({ state: 'revoked', actedOn: { items: [{ ...item, revoked: true }], complete: true } });
    expect([await stateOf(acted.id), await stateOf(untouched.id)]).toEqual(['revoked', 'active']);
    const dead = await inside(['keys', 'verify', '--json'], { stdin: rotated.out.trim(), env: env() });
    expect(json(dead.out)).toEqual({ valid: false, code: 'revoked' });
  }, 120_000);

  test('a key is suspended and resumed', async () => {
    const { key, id } = await create();
    const suspended = await inside(['keys', 'suspend', id, '--json'], { env: env() });
    expect(json(suspended.out)).toMatchObject({ id, state: 'suspended' });
    const no = await inside(['keys', 'verify', '--json'], { stdin: key, env: env() });
    expect(json(no.out)).toMatchObject({ valid: false, code: 'suspended' });
    expect(await inside(['keys', 'resume', id], { env: env() })).toMatchObject({ code: EXIT.ok });
    const yes = await inside(['keys', 'verify'], { stdin: key, env: env() });
    expect(yes).toMatchObject({ code: EXIT.ok });
    expect(yes.out).toMatch(/^valid\n/);
  }, 120_000);

  test('a key is changed with the etag that was shown, and a second change with the same etag is refused', async () => {
    const { id } = await create('--quota', '10/day', '--description', 'first');
    const { etag } = json((await inside(['keys', 'get', id, '--json'], { env: env() })).out);
    const update = (...more: string[]) => inside(['keys', 'update', id, '--json', ...more], { env: env() });
    const changed = await update('--name', 'changed', '--clear', 'quota', 'description', '--if-match', String(etag));
    expect(changed).toMatchObject({ code: EXIT.ok });
    const record = json(changed.out);
    expect(record).toMatchObject({ id, name: 'changed', permissions: ['deploy:run'] });
    for (const cleared of ['quota', 'description']) expect(record).not.toHaveProperty(cleared);
    expect(record['etag']).not.toBe(etag);

    // Shells eat quotation marks, so the tag is understood without.
    const bare = String(etag).replaceAll('"', '');
    for (const command of [
      ['update', id, '--name', 'lost'],
      ['suspend', id],
      ['rotate', id],
      ['revoke', id],
    ]) {
      const refused = await inside(['keys', ...command, '--if-match', bare], { env: env() });
      expect(refused).toMatchObject({ code: EXIT.refused, out: '' });
      expect(refused.err).toContain('precondition_failed');
    }
    const current = String(record['etag']).replaceAll('"', '');
    expect(await update('--name', 'again', '--if-match', current)).toMatchObject({ code: EXIT.ok });
    const both = await update('--name', 'again', '--clear', 'name');
    expect(both).toMatchObject({ code: EXIT.usage, out: '' });
  }, 120_000);

  test('a new key is written to a file with mode 0600, and never over another one', async () => {
    const out = join(folder, `${name}.key`);
    const args = ['keys', 'create', '--user', 'user-2', '--name', 'to file', '--out', out, '--json'];
    const created = await inside(args, { env: env() });
    expect(created.code).toBe(EXIT.ok);
    expect(statSync(out).mode & 0o777).toBe(0o600);
    const key = readFileSync(out, 'utf8').trim();
    keys.push(key);
    expect(created.out).not.toContain(key.slice(26));
    expect(json(created.out)).toEqual({ apiKey: expect.objectContaining({ id: key.slice(9, 25) }) });

    const second = await inside(args, { env: env() });
    expect(second).toMatchObject({ code: EXIT.usage, out: '' });
    expect(readFileSync(out, 'utf8').trim()).toBe(key);
    const listed = await inside(['keys', 'list', '--user', 'user-2', '--search', 'to file', '--json'], { env: env() });
    const names = json(listed.out)['items'] as { id: string }[];
    expect(names.filter(({ id }) => id === key.slice(9, 25))).toHaveLength(1);

    const unused = join(folder, `${name}-unused.key`);
    const refused = await inside(['keys', 'create', '--user', 'u', '--name', '', '--out', unused], { env: env() });
    expect(refused).toMatchObject({ code: EXIT.usage });
    expect(existsSync(unused)).toBe(false);
  }, 120_000);

  test('every setting of a key has an option', async () => {
    const metadata = join(folder, `${name}-metadata.json`);
    writeFileSync(metadata, '{"team":"payments"}');
    const args = [
      ...['keys', 'create', '--user', 'user-3', '--name', `full ${name}`, '--description', 'all of it', '--json'],
      ...['--permission', 'orders:read', 'orders:list', '--permission', 'invoices:*', '--grantable', 'orders:*'],
      ...['--environment', 'test', '--not-before', '2020-01-01T00:00:00Z', '--expires-at', '2100-01-01T00:00:00Z'],
      ...['--rate-limit', 'burst=10/1s', '--rate-limit', 'day=1000/1d', '--quota', '5000/month', '--ip', '10.0.0.0/8'],
      ...['--rotate-every', '30d', '--overlap', '1h', '--jwt-algorithm', 'Ed25519', '--audience', 'https://a.example'],
      ...[
        '--ttl',
        '5m',
        '--claims',
        '{"plan":"gold"}',
        '--metadata',
        `@${metadata}`,
        '--idempotency-key',
        `key-${name}`,
      ],
    ];
    // An audience of its own is one that the tenant may ask for.
    const refused = await inside(args, { env: env() });
    expect(json(refused.err)).toMatchObject({
      code: 'not_grantable',
      detail: expect.stringContaining('PATCH /v1/tenants/default'),
    });
    const named = await inside(['tenants', 'update', 'default', '--audience', 'https://a.example'], { env: env() });
    expect(named).toMatchObject({ code: EXIT.ok });
    onTestFinished(async () => {
      await inside(['tenants', 'update', 'default', '--clear', 'audiences'], { env: env() });
    });
    const shown = json((await inside(['tenants', 'get', 'default', '--json'], { env: env() })).out);
    expect(shown).toMatchObject({ id: 'default', audiences: ['https://a.example'] });
    const stale = ['tenants', 'update', 'default', '--name', 'x', '--if-match', 't1'];
    expect(await inside(stale, { env: env() })).toMatchObject({ code: EXIT.refused, out: '' });

    const created = await inside(args, { env: env() });
    expect(created).toMatchObject({ code: EXIT.ok, err: '' });
    const { key, apiKey } = json(created.out) as { key: string; apiKey: Record<string, unknown> };
    keys.push(key);
    expect(apiKey).toMatchObject({
      userId: 'user-3',
      name: `full ${name}`,
      description: 'all of it',
      environment: 'test',
      permissions: ['orders:read', 'orders:list', 'invoices:*'],
      grantable: ['orders:*'],
      notBefore: '2020-01-01T00:00:00.000Z',
      expiresAt: '2100-01-01T00:00:00.000Z',
      rateLimits: [
        { name: 'burst', limit: 10, window: '1s' },
        { name: 'day', limit: 1000, window: '1d' },
      ],
      quota: { limit: 5000, period: 'month' },
      ipAllowlist: ['10.0.0.0/8'],
      rotation: { every: '30d', overlap: '1h' },
      jwt: { algorithm: 'Ed25519', audience: ['https://a.example'], ttl: '5m', customClaims: { plan: 'gold' } },
      metadata: { team: 'payments' },
    });
    const got = await inside(['keys', 'get', String(apiKey['id']), '--json'], { env: env() });
    expect(json(got.out)).toEqual(apiKey);
    const other = await inside([...args, '--expires-in', '1d'], { env: env() });
    expect(other).toMatchObject({ code: EXIT.usage, out: '' });
    expect(json(other.err)).toMatchObject({ status: expect.any(Number), code: expect.any(String) });
  }, 120_000);

  test('a token signed offline with the key itself is accepted, within the permissions of the key', async () => {
    const { key, id } = await create('--jwt-algorithm', 'HS256');
    const sign = ['token', 'sign', '--issuer', url()];
    const signed = await inside([...sign, '--permission', 'deploy:run', '--ttl', '60s'], { stdin: key });
    expect(signed).toMatchObject({ code: EXIT.ok, err: '' });
    const verified = await inside(['token', 'verify', '--json'], { stdin: signed.out, env: env() });
    expect(json(verified.out)).toMatchObject({ valid: true, keyId: id });
    const foreign = await inside(['token', 'sign', '--issuer', 'https://other.example'], { stdin: key });
    expect(foreign.err).toContain('grants nothing');
    const refused = await inside(['token', 'verify', '--json'], { stdin: foreign.out, env: env() });
    expect(refused.code).toBe(EXIT.refused);
    expect(json(refused.out)).toMatchObject({ valid: false });
  }, 120_000);

  test('an unknown id is refused, and so is a caller without the permission', async () => {
    const missing = await inside(['keys', 'get', '0000000000000000'], { env: env() });
    expect(missing).toMatchObject({ code: EXIT.refused, out: '' });
    expect(missing.err).toBe('pantheon-auth: not_found: The resource does not exist — Check the id and the tenant.\n');
    const { key } = await create();
    const own = { ...env(), PANTHEON_AUTH_KEY_FILE: '', PANTHEON_AUTH_KEY: key };
    const refused = await inside(['keys', 'list', '--json'], { env: own });
    expect(refused).toMatchObject({ code: EXIT.notAllowed, out: '' });
    expect(json(refused.err)).toMatchObject({ status: 403, code: 'insufficient_permissions' });
  }, 120_000);
});

test('a key revoked on the data folder is refused by the next answer of the running server, and so is its token', async () => {
  const created = await cli(['keys', 'create', '--user', 'user-9', '--name', 'both', '--permission', 'a:b']);
  const key = created.out.trim();
  keys.push(key);
  const exchanged = await cli(['token', 'exchange'], { stdin: key, env: TRANSPORTS.remote() });
  const asked = (credential: string): Promise<Response> =>
    fetch(`${url()}/v1/self`, { headers: { authorization: `Bearer ${credential}` } });
  // Both are known to the server by now, so what it answers next does not come from not knowing them.
  expect((await asked(key)).status).toBe(200);
  expect((await asked(exchanged.out.trim())).status).toBe(200);

  expect(await cli(['keys', 'revoke', key.slice(9, 25)])).toMatchObject({ code: EXIT.ok });

  for (const credential of [key, exchanged.out.trim()]) {
    const answer = await asked(credential);
    expect(answer.status).toBe(401);
    expect(await answer.json()).toMatchObject({ code: 'revoked' });
  }
}, 30_000);

test('changes of the server are seen on the data folder at once', async () => {
  const created = await cli(['keys', 'create', '--user', 'user-8', '--name', 'there'], { env: TRANSPORTS.remote() });
  const key = created.out.trim();
  keys.push(key);
  expect(await cli(['keys', 'verify'], { stdin: key })).toMatchObject({ code: EXIT.ok });
});

test('--all reads all pages and prints them like one', async () => {
  for (const which of ['a', 'b', 'c']) {
    const { out } = await inside(['keys', 'create', '--user', 'user-7', '--name', which], { env: TRANSPORTS.remote() });
    keys.push(out.trim());
  }
  const args = ['keys', 'list', '--user', 'user-7', '--limit', '1', '--json'];
  const page = json((await inside(args)).out);
  expect(page['items']).toHaveLength(1);
  const next = await inside([...args, '--cursor', String(page['nextCursor'])]);
  expect(json(next.out)['items']).toMatchObject([{ name: 'b' }]);
  for (const transport of Object.values(TRANSPORTS)) {
    const all = json((await inside([...args, '--all'], { env: transport() })).out);
    expect(all).toMatchObject({ items: [{ name: 'c' }, { name: 'b' }, { name: 'a' }], nextCursor: null });
  }
  const table = await inside(['keys', 'list', '--user', 'user-7', '--limit', '2']);
  expect(table.out.split('\n')[0]).toMatch(/^ID +NAME +USER/);
  expect(table.err).toMatch(/^There are more keys: --all, or --cursor /);
}, 30_000);

test('the versions of a key, a key and a change are printed readably too', async () => {
  const created = await inside(['keys', 'create', '--user', 'user-6', '--name', 'seen']);
  const key = created.out.trim();
  keys.push(key);
  const id = key.slice(9, 25);
  expect(created.err).toMatch(/^name +seen$/m);
  const versions = await inside(['keys', 'versions', id]);
  expect(versions.out).toMatch(/^VERSION +STATE .*\n1 +current /);
  const revoked = await inside(['keys', 'revoke', id, '--cascade', '--force']);
  expect(revoked.out).toMatch(/^state +revoked$/m);
  const wrong = await inside(['keys', 'rotate', id, '--expected-version', '1']);
  expect(wrong).toMatchObject({ code: EXIT.refused, out: '' });
  expect(wrong.err).toMatch(/^pantheon-auth: key_revoked: /);
}, 30_000);

test('a system key acts in the given tenant', async () => {
  const nowhere = await inside(['keys', 'list', '--tenant', 'nowhere']);
  expect(nowhere).toMatchObject({ code: EXIT.refused, out: '' });
  expect(nowhere.err).toContain('not_found');
  const system = await inside(['keys', 'list', '--tenant', 'system', '--json']);
  expect(json(system.out)['items']).toMatchObject([{ name: 'root' }]);
  const last = await inside(['keys', 'revoke', keys[0]?.slice(9, 25) ?? '', '--tenant', 'system']);
  expect(last).toMatchObject({ code: EXIT.refused });
  expect(last.err).toContain('last_administrator');
}, 30_000);

test('a data folder without its root key needs a key, and accepts one with the permission', async () => {
  const away = { PANTHEON_AUTH_ROOT_KEY_FILE: join(folder, 'moved-away.key') };
  const refused = await inside(['keys', 'list'], { env: away });
  expect(refused).toMatchObject({ code: EXIT.notAllowed, out: '' });
  expect(refused.err).toContain('missing_credential');
  const own = await inside(['keys', 'list', '--caller-key-file', rootKeyFile()], { env: away });
  expect(own).toMatchObject({ code: EXIT.ok, err: '' });
}, 30_000);

test('the audit trail contains which key made a change, and by which kind of credential', async () => {
  const created = await inside(['keys', 'create', '--user', 'user-5', '--name', 'audited']);
  keys.push(created.out.trim());
  const response = await fetch(`${url()}/v1/events?limit=1`, { headers: { authorization: `Bearer ${keys[0]}` } });
  const [event] = json(await response.text())['items'] as unknown[];
  expect(event).toMatchObject({
    type: 'key.created',
    subject: { id: created.out.slice(9, 25) },
    actor: { keyId: keys[0]?.slice(9, 25), userAgent: 'pantheon-auth-cli' },
  });
}, 30_000);

/** What every other process of the machine can read. */
function commandLineOf({ pid }: ChildProcess): string {
  const file = `/proc/${pid}/cmdline`;
  if (existsSync(file)) return readFileSync(file, 'utf8');
  return spawnSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' }).stdout;
}

test('a running command shows no secret among its arguments', async () => {
  const key = keys.at(-1) ?? '';
  const child = start(['keys', 'verify', '--json'], { PANTHEON_AUTH_SUBJECT_TOKEN: '', ...TRANSPORTS.remote() });
  const line = commandLineOf(child);
  child.stdin?.end(key);
  await once(child, 'close');
  expect(line).toContain('verify');
  expect(line).not.toMatch(/_live_[0-9A-Za-z]{17}/);
  expect(commandLineOf(server)).not.toMatch(/_live_[0-9A-Za-z]{17}/);
});

test('a port in use, a folder without a database and a server that is not there end in one line', async () => {
  const taken = await cli(['serve', '--data-dir', join(folder, 'other'), '--log-level', 'silent']);
  expect(taken).toMatchObject({ code: EXIT.unavailable });
  expect(taken.err).toMatch(/^pantheon-auth: port_in_use: .*\n$/);

  const empty = join(folder, 'empty');
  const nothing = await cli(['keys', 'list', '--data-dir', empty]);
  expect(nothing).toMatchObject({ code: EXIT.unavailable, out: '' });
  expect(nothing.err).toMatch(/^pantheon-auth: store_unusable: There is no database .*\n$/);
  expect(existsSync(empty)).toBe(false);

  const nobody = `http://127.0.0.1:${await freePort()}`;
  const gone = await cli(['keys', 'list', '--url', nobody, '--caller-key-file', rootKeyFile()]);
  expect(gone).toMatchObject({ code: EXIT.unavailable, out: '' });
  expect(gone.err).toMatch(/^pantheon-auth: store_unavailable: No answer from .*ECONNREFUSED.*\n$/);
}, 30_000);

test('on SQLite a lost root key is replaced by another one, in a new file, and the audit trail says so', async () => {
  const elsewhere = { PANTHEON_AUTH_DATA_DIR: join(folder, 'recovered') };
  const out = join(folder, 'recovered.key');
  const nothing = await inside(['bootstrap', '--recover', '--out', out], { env: elsewhere });
  expect(nothing).toMatchObject({ code: EXIT.unavailable, err: expect.stringContaining('There is no database') });
  expect(existsSync(elsewhere.PANTHEON_AUTH_DATA_DIR)).toBe(false);

  const first = join(folder, 'first.key');
  expect(await inside(['migrate'], { env: elsewhere })).toMatchObject({ code: EXIT.ok, err: '' });
  expect(await inside(['bootstrap', '--out', first], { env: elsewhere })).toMatchObject({ code: EXIT.ok });
  const again = await inside(['bootstrap', '--out', out], { env: elsewhere });
  expect(again).toMatchObject({ code: EXIT.refused, err: expect.stringContaining('bootstrap --recover --out FILE') });
  expect(existsSync(out)).toBe(false);

  const recovered = await inside(['bootstrap', '--recover', '--out', out, '--json'], { env: elsewhere });
  expect(recovered.code, recovered.err).toBe(EXIT.ok);
  expect(statSync(out).mode & 0o777).toBe(0o600);
  const { keyId } = json(recovered.out);
  for (const file of [first, out]) keys.push(readFileSync(file, 'utf8').trim());
  const args = ['keys', 'list', '--tenant', 'system', '--caller-key-file', out, '--json'];
  const listed = await inside(args, { env: elsewhere });
  expect(json(listed.out)['items']).toEqual([expect.objectContaining({ id: keyId }), expect.anything()]);
  const auth = await createPantheonAuth({ dataDir: elsewhere.PANTHEON_AUTH_DATA_DIR, issuer: url() });
  const { items } = await auth.events.list('system', { subjectId: String(keyId) });
  await auth.close();
  const nobody = { keyId: null, userId: null };
  expect(items).toMatchObject([{ type: 'key.created', reason: 'recovered', actor: nobody }]);
}, 30_000);

test('a store whose recorded time is wrong is refused, shown, and opens after an operator accepts the time', async () => {
  const dataDir = join(folder, 'ahead');
  const env = { PANTHEON_AUTH_DATA_DIR: dataDir };
  const nothing = await inside(['clock', 'accept'], { env });
  expect(nothing).toMatchObject({ code: EXIT.unavailable, err: expect.stringContaining('There is no database') });

  const clock = { now: () => Date.now() + 31_536_000_000, monotonicMs: () => performance.now() };
  await (await createPantheonAuth({ dataDir, issuer: url(), clock })).close();
  const refused = await inside(['keys', 'list'], { env });
  expect(refused).toMatchObject({ code: EXIT.unavailable, out: '' });
  expect(refused.err).toMatch(/^pantheon-auth: clock_in_doubt: .*NTP.*pantheon-auth clock accept.*\n$/);

  const shown = await inside(['clock', 'accept', '--json'], { env });
  expect(json(shown.out)).toMatchObject({ isNeeded: true, done: null });
  expect(await inside(['keys', 'list'], { env })).toMatchObject({ code: EXIT.unavailable });

  const done = await inside(['clock', 'accept', '--yes', '--reason', 'a test'], { env });
  expect(done, done.err).toMatchObject({ code: EXIT.ok, out: expect.stringMatching(/signing keys replaced\s+6/) });
  expect(await inside(['bootstrap', '--out', join(folder, 'ahead.key')], { env })).toMatchObject({ code: EXIT.ok });
  const again = await inside(['clock', 'accept', '--yes'], { env });
  expect(again).toMatchObject({ code: EXIT.ok, err: expect.stringContaining('Nothing to do') });
}, 30_000);

test('output that could not be written gives an exit code other than 0', async () => {
  const unwritable = openSync(MAIN, 'r');
  const child = spawn(process.execPath, [...NODE_ARGUMENTS, '--version'], { stdio: ['ignore', unwritable, 'ignore'] });
  const [code] = await once(child, 'close');
  closeSync(unwritable);
  expect(code).toBe(EXIT.internal);
});

test('no command has written a secret to its standard error', () => {
  expect(keys.length).toBeGreaterThan(10);
  const everything = errors.join('\n');
  expect(everything).not.toMatch(/eyJ[\w-]{8,}\.[\w-]{8,}/);
  for (const key of keys) {
    expect(key).toMatch(/^pan_(?:live|test)_[0-9A-Za-z]{65}$/);
    expect(everything).not.toContain(key.slice(25));
  }
});
