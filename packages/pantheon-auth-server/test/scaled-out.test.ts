/** The command line and the service on PostgreSQL and Redis, as processes: from an empty database to several nodes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { APIKeyGenerator } from 'pantheon-auth';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { freePort } from '../../../tools/servers/free-port.ts';
import { type PostgresServer, startPostgres, startReplica, withClient } from '../../../tools/servers/postgres.ts';
import { describeWithOwnServers, type Scratch, scratchRedis } from '../../../tools/servers/scratch.ts';
import { EXIT } from '../src/cli/exit-codes.ts';

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
/** Of the database's user, percent-encoded in its URL. */
const PASSWORD = 'hunter2/&x';
const ALICE = `alice:${encodeURIComponent(PASSWORD)}`;

type Settings = Readonly<Record<string, string>>;

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface Node {
  readonly child: ChildProcess;
  readonly url: string;
  readonly metricsUrl: string;
  readonly output: () => string;
}

let folder = '';
let postgres: PostgresServer;
let redis: Scratch;
/** The settings that all share. */
let shared: Settings = {};
const children = new Set<ChildProcess>();
/** All that any process ever wrote. */
const written: string[] = [];

function start(args: readonly string[], settings: Settings): ChildProcess {
  const environment = Object.entries({ ...shared, ...settings }).map(([name, value]) => [
    `PANTHEON_AUTH_${name}`,
    value,
  ]);
  const child = spawn(process.execPath, ['--conditions=source', MAIN, ...args], {
    cwd: folder,
    env: Object.fromEntries(environment),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

async function cli(args: readonly string[], settings: Settings = {}, stdin = ''): Promise<Ended> {
  const child = start(args, settings);
  const parts = { out: '', err: '' };
  child.stdout?.on('data', (part) => {
    parts.out += String(part);
  });
  child.stderr?.on('data', (part) => {
    parts.err += String(part);
  });
  child.stdin?.on('error', () => {}).end(stdin);
  const [code] = (await once(child, 'close')) as [number | null];
  written.push(parts.err);
  return { code, ...parts };
}

async function startNode(settings: Settings = {}): Promise<Node> {
  const [port, metricsPort] = [await freePort(), await freePort()];
  const child = start(['serve'], { PORT: String(port), METRICS_PORT: String(metricsPort), ...settings });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (part) => {
      output += String(part);
      written.push(String(part));
    });
  await expect
    .poll(() => output.includes('Pantheon Auth serves') || child.exitCode !== null, { timeout: 20_000 })
    .toBe(true);
  expect(child.exitCode, output).toBeNull();
  return {
    child,
    url: `http://127.0.0.1:${port}`,
    metricsUrl: `http://127.0.0.1:${metricsPort}`,
    output: () => output,
  };
}

async function stop({ child }: Node): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  expect(await exited).toEqual([0, null]);
}

/** One line, with this code and about this, and no password in it. */
function expectOneLine({ code, err, out }: Ended, exitCode: number, what: RegExp): void {
  const lines = err.split('\n').filter((line) => line !== '' && !line.startsWith('{"level":"warn"'));
  expect(lines).toEqual([expect.stringMatching(what)]);
  expect({ code, out }).toEqual({ code: exitCode, out: '' });
  expect(err).not.toContain('hunter2');
}

async function newDatabase(): Promise<string> {
  const url = new URL(await postgres.createDatabase());
  await withClient(url.href, (client) => client.query('grant all on schema public to alice'));
  [url.username, url.password] = ALICE.split(':') as [string, string];
  return url.href;
}

describeWithOwnServers('on PostgreSQL and Redis', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-scaled-out-'));
    // The server reads it as another user.
    chmodSync(folder, 0o755);
    const rules = join(folder, 'pg_hba.conf');
    const trusted = ['host all postgres 127.0.0.1/32 trust', 'host replication postgres 127.0.0.1/32 trust'];
    writeFileSync(rules, `${[...trusted, 'host all all 127.0.0.1/32 scram-sha-256'].join('\n')}\n`);
    postgres = await startPostgres({ settings: { hba_file: rules } });
    redis = await scratchRedis();
    await withClient(postgres.url, (client) => client.query(`create role alice login password '${PASSWORD}'`));
    writeFileSync(join(folder, 'master.key'), `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
    shared = {
      DATA_DIR: join(folder, 'data'),
      MASTER_KEY_FILE: join(folder, 'master.key'),
      PUBLIC_URL: 'http://localhost:8787',
    };
  }, 60_000);

  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
  });

  afterAll(async () => {
    await redis[Symbol.asyncDispose]();
    await postgres[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  test('several nodes start on an empty database, and each sees the changes of the others', async () => {
    const settings = { DATABASE_URL: await newDatabase() };
    expectOneLine(
      await cli(['serve'], settings),
      EXIT.unavailable,
      /^pantheon-auth: schema_too_old: .*pantheon-auth migrate$/,
    );
    const migrated = await Promise.all([cli(['migrate', '--json'], settings), cli(['migrate', '--json'], settings)]);
    expect(migrated.map(({ code }) => code)).toEqual([EXIT.ok, EXIT.ok]);
    expect(migrated.map(({ out }) => JSON.parse(out).ran.length).sort()).toEqual([0, expect.any(Number)]);
    expect((await cli(['migrate'], settings)).out).toBe('The tables are up to date.\n');

    const lonely = await startNode(settings);
    expect(lonely.output()).toContain('pantheon-auth bootstrap --out FILE');

    // Two at once: one key, one file.
    const files = [join(folder, 'one.key'), join(folder, 'two.key')] as const;
    const made = await Promise.all(files.map((file) => cli(['bootstrap', '--out', file], settings)));
    expect(made.map(({ code }) => code).sort()).toEqual([EXIT.ok, EXIT.refused]);
    const rootKeyFile = files.find((file) => existsSync(file)) ?? '';
    expect(files.filter((file) => existsSync(file))).toHaveLength(1);
    expect(statSync(rootKeyFile).mode & 0o777).toBe(0o600);
    const rootKey = readFileSync(rootKeyFile, 'latin1').trim();
    const again = await cli(['bootstrap', '--out', rootKeyFile], settings);
    expectOneLine(again, EXIT.refused, /^pantheon-auth: already_exists: There is an administrator already.*--recover/);
    expect(readFileSync(rootKeyFile, 'latin1').trim()).toBe(rootKey);

    // An update of one node without Redis: the new one is ready before the old one ends, and a third is refused.
    const next = await startNode(settings);
    expect((await fetch(`${next.url}/readyz`)).status).toBe(200);
    expect((await fetch(`${lonely.url}/readyz`)).status).toBe(200);
    const third = await cli(['serve'], { ...settings, PORT: '0' });
    expectOneLine(third, EXIT.unavailable, /^pantheon-auth: redis_required: .*REDIS_URL/);
    await stop(lonely);
    await stop(next);

    const withRedis = { ...settings, REDIS_URL: redis.url };
    const [first, second] = [await startNode(withRedis), await startNode(withRedis)] as const;
    expectOneLine(
      await cli(['serve'], { ...settings, PORT: '0' }),
      EXIT.unavailable,
      /^pantheon-auth: redis_required: /,
    );

    const headers = { authorization: `Bearer ${rootKey}`, 'content-type': 'application/json' };
    const post = async (node: Node, path: string, body: object): Promise<Record<string, unknown>> => {
      const response = await fetch(`${node.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
      return (await response.json()) as Record<string, unknown>;
    };
    const rateLimits = [{ name: 'requests', limit: 2, window: '1h' }];
    const { key, apiKey } = (await post(first, '/v1/keys', { userId: 'u', name: 'n', rateLimits })) as {
      key: string;
      apiKey: { id: string };
    };
    expect(await post(second, '/v1/keys/verify', { key })).toMatchObject({ valid: true });
    expect(await post(first, '/v1/keys/verify', { key })).toMatchObject({ valid: true });
    expect(await post(second, '/v1/keys/verify', { key })).toMatchObject({ valid: false, code: 'rate_limited' });
    // A command beside them, with and without Redis, is neither refused nor in the way.
    for (const own of [settings, withRedis]) {
      const local = { ...own, ROOT_KEY_FILE: rootKeyFile };
      const verified = await cli(['keys', 'verify', '--cost', '0', '--json'], local, key);
      expect(JSON.parse(verified.out), verified.err).toMatchObject({ keyId: apiKey.id, valid: true });
    }
    expect(await post(second, `/v1/keys/${apiKey.id}/revoke?settle=true`, {})).toMatchObject({ state: 'revoked' });
    expect(await post(first, '/v1/keys/verify', { key })).toEqual({ valid: false, code: 'revoked' });

    const metrics = await (await fetch(`${first.metricsUrl}/metrics`)).text();
    expect(metrics).toMatch(/^pantheon_auth_limiter_degraded 0$/m);
    expect(metrics).toMatch(/^pantheon_auth_limiter_degraded_decisions_total 0$/m);
    const told = await (await fetch(`${first.url}/openapi.json`)).text();
    expect(metrics + told + first.output() + second.output()).not.toContain('hunter2');
    await Promise.all([stop(first), stop(second)]);
    expect(existsSync(join(folder, 'data'))).toBe(false);
    for (const text of written) {
      expect(text).not.toContain('hunter2');
      expect(text).not.toContain(rootKey.slice(25));
      expect(text).not.toContain(key.slice(25));
    }
  }, 120_000);

  test('a lost administrator key is replaced by another one, and the audit trail says so', async () => {
    const settings = { DATABASE_URL: await newDatabase() };
    expect((await cli(['migrate'], settings)).code).toBe(EXIT.ok);
    const [lost, found] = [join(folder, 'lost.key'), join(folder, 'found.key')];
    expect((await cli(['bootstrap', '--out', lost], settings)).code).toBe(EXIT.ok);
    const inTheWay = await cli(['bootstrap', '--recover', '--out', lost], settings);
    expectOneLine(inTheWay, EXIT.usage, /^pantheon-auth: invalid_request: The file .* exists already/);
    const recovered = await cli(['bootstrap', '--recover', '--out', found, '--json'], settings);
    expect(recovered.code, recovered.err).toBe(EXIT.ok);
    const { keyId } = JSON.parse(recovered.out) as { keyId: string };
    expect(statSync(found).mode & 0o777).toBe(0o600);

    const node = await startNode({ ...settings, ROOT_KEY_FILE: found });
    expect(node.output()).toContain(`The root key is in ${found}`);
    const headers = { authorization: `Bearer ${readFileSync(found, 'latin1').trim()}`, 'pantheon-tenant': 'system' };
    const events = await fetch(`${node.url}/v1/events?type=key.created`, { headers });
    const { items } = (await events.json()) as { items: object[] };
    const nobody = { keyId: null, userId: null };
    expect(items).toEqual([
      expect.objectContaining({
        reason: 'recovered',
        actor: expect.objectContaining(nobody),
        subject: { type: 'key', id: keyId },
      }),
      expect.objectContaining({ reason: null }),
    ]);
    await stop(node);

    // As a store on SQLite leaves it in the data folder, where a move to PostgreSQL finds it.
    const foreign = join(folder, 'foreign.key');
    writeFileSync(foreign, new APIKeyGenerator().generateKey().key, { mode: 0o600 });
    const beside = await startNode({ ...settings, ROOT_KEY_FILE: foreign });
    expect(beside.output()).toContain(`The root key of this store is not in ${foreign}`);
    expect(beside.output()).not.toContain('curl');
    await stop(beside);
  }, 60_000);

  test('a problem at the start is one line that says what to do, and no password', async () => {
    const url = await newDatabase();
    expect((await cli(['migrate'], { DATABASE_URL: url })).code).toBe(EXIT.ok);
    const serve = (database: string, settings: Settings = {}): Promise<Ended> =>
      cli(['serve'], { DATABASE_URL: database, ...settings });
    const from = (change: (url: URL) => void): string => {
      const changed = new URL(url);
      change(changed);
      return changed.href;
    };
    const missing = await serve(url, { MASTER_KEY_FILE: join(folder, 'no.key') });
    expectOneLine(
      missing,
      EXIT.unavailable,
      /^pantheon-auth: master_key_missing: .*openssl rand -base64 32 > master\.key && chmod 600/,
    );
    expect((await cli(['bootstrap', '--out', join(folder, 'third.key')], { DATABASE_URL: url })).code).toBe(EXIT.ok);
    writeFileSync(join(folder, 'other.key'), randomBytes(32).toString('base64'), { mode: 0o600 });
    const mismatch = await serve(url, { MASTER_KEY_FILE: join(folder, 'other.key') });
    expectOneLine(mismatch, EXIT.unavailable, /^pantheon-auth: master_key_mismatch: /);
    const wrong = from((changed) => {
      changed.password = 'hunter2-wrong';
    });
    expectOneLine(
      await serve(wrong),
      EXIT.unavailable,
      /^pantheon-auth: store_unusable: .*Check the user.*\(DATABASE_URL\)$/,
    );
    const noDatabase = from((changed) => {
      changed.pathname = '/nowhere';
    });
    expectOneLine(
      await serve(noDatabase),
      EXIT.unavailable,
      /^pantheon-auth: store_unusable: .*nowhere.*\(DATABASE_URL\)$/,
    );
    const closed = await freePort();
    const away = from((changed) => {
      changed.port = String(closed);
    });
    expectOneLine(
      await serve(away),
      EXIT.unavailable,
      /^pantheon-auth: store_unavailable: .*Check that PostgreSQL runs.*$/,
    );
    const noFile = `${url}?sslmode=verify-full&sslrootcert=/nowhere.pem`;
    expectOneLine(await serve(noFile), EXIT.usage, /^pantheon-auth: invalid_setting: .*\(DATABASE_URL\)/);
    await using standby = await startReplica(postgres);
    const replica = from((changed) => {
      changed.port = String(standby.port);
    });
    for (const args of [['serve'], ['migrate']])
      expectOneLine(
        await cli(args, { DATABASE_URL: replica }),
        EXIT.unavailable,
        /^pantheon-auth: store_read_only: .*standby/,
      );
  }, 120_000);
});
