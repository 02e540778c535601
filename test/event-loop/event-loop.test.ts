/**
 * No call holds the event loop: whatever is asked, verifications of others go on meanwhile. On SQLite, where every
 * statement of the main thread is synchronous, and on a store of the size that years of use make it.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { allOperations, createApp } from '../../packages/pantheon-auth-server/src/app.ts';
import { createLogger } from '../../packages/pantheon-auth-server/src/http/logging.ts';
import { openService } from '../../packages/pantheon-auth-server/src/service/open.ts';
import { type Config, loadConfig } from '../../packages/pantheon-auth-server/src/settings/config.ts';
import { heldMs } from './held.ts';
import { fill, type Sizes } from './large-store.ts';

/** `long`: the sizes that the promise is about. Else a tenth, in which everything that grows with the store shows too. */
const IS_LONG = process.env['PANTHEON_AUTH_LOOP'] === 'long';
const SIZES: Sizes = IS_LONG
  ? { keys: 50_000, events: 1_000_000, usageRows: 1_000_000, revokedTokens: 240_000 }
  : { keys: 15_000, events: 100_000, usageRows: 100_000, revokedTokens: 100_000 };
const CHILDREN = IS_LONG ? 11_000 : 400;
const LARGE_KEYS = 200;
const AT_ONCE = 20;
/** Longer than this no call may hold the event loop. */
const HELD_MS_MAX = 50;
/** Nobody is served yet: the file is looked through, keys are derived. It does not grow with what is stored. */
const OPENING_HELD_MS_MAX = 150;
const ENOUGH = { enoughMs: HELD_MS_MAX };
/** Families that are made to be revoked: one for each measurement. */
const FAMILIES = 3;
const SETUP_MS = 600_000;

type Service = Awaited<ReturnType<typeof openService>>;
type App = Awaited<ReturnType<typeof createApp>>;

let folder: string;
let config: Config;
let service: Service;
let app: App;
let rootKey: string;
/** A key that is listed first, and opens. */
let id: string;

const logger = createLogger('error', { write: () => {} });

async function start(): Promise<void> {
  service = await openService(config, logger);
  app = await createApp({ auth: service.auth, config, logger });
}

async function stop(): Promise<void> {
  await app.close();
  await service.close();
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-loop-'));
  config = loadConfig({ DATA_DIR: folder, LOG_LEVEL: 'error' }, {}, folder).config;
  await start();
  rootKey = readFileSync(config.rootKeyFile, 'latin1').trim();
  const { keys } = service.auth.tenant('default');
  const long = (of: string, n: number): string => `${of}:${'x'.repeat(100)}:${n}`;
  const permissions = Array.from({ length: 256 }, (_, n) => long('read', n));
  const grantable = Array.from({ length: 200 }, (_, n) => long('give', n));
  await keys.create({ userId: 'small', name: 'small', permissions: ['docs:read'] });
  for (let n = 0; n < LARGE_KEYS; n += 1)
    ({ id } = (await keys.create({ userId: 'large', name: `large ${n}`, permissions, grantable })).apiKey);
  await stop();
  if (config.database.kind !== 'sqlite') throw new Error('This is about SQLite.');
  fill(config.database.file, SIZES, Date.now());
}, SETUP_MS);

afterAll(async () => {
  await stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly body: { readonly nextCursor?: string | null; readonly items?: readonly unknown[] };
}

async function call(method: 'GET' | 'POST', url: string, body?: object, key: string = rootKey): Promise<Answer> {
  const response = await app.inject({
    method,
    url,
    headers: { authorization: `Bearer ${key}`, ...(key === rootKey && { 'pantheon-tenant': 'default' }) },
    ...(body !== undefined && { payload: body }),
  });
  return { status: response.statusCode, body: response.json() };
}

/** Every page of a list, at most so many. */
async function pages(url: string, max: number, expected = 200): Promise<number> {
  let seen = 0;
  for (let cursor: string | null = ''; cursor !== null && seen < max; seen += 1) {
    const { status, body } = await call('GET', cursor === '' ? url : `${url}&cursor=${cursor}`);
    expect(status).toBe(expected);
    cursor = body.nextCursor ?? null;
  }
  return seen;
}

test(
  'opening it, with all the revoked tokens that it holds',
  async () => {
    await stop();
    const held = await heldMs(async () => {
      service = await openService(config, logger);
      await service.close();
    }, ENOUGH);
    await start();
    expect(held).toBeLessThan(OPENING_HELD_MS_MAX);
  },
  SETUP_MS,
);

const DAY_MS = 86_400_000;
const NOW = Date.now();
const range = (days: number): string =>
  `from=${new Date(NOW - days * DAY_MS).toISOString()}&to=${new Date(NOW).toISOString()}`;

/** Each route that reads, as whoever asks for the most would ask. */
const READS: Readonly<Record<string, readonly (readonly [query: string, pages: number, status?: number])[]>> = {
  '/v1/keys': [
    ['?limit=200', 5],
    ['?limit=200&userId=user-7', 3],
    ['?limit=200&userId=large', 200],
    ['?q=nothing-has-this-name', 20],
    ['?q=OLD%20KEY%2012', 10],
    ['?state=expired', 20],
    ['?state=suspended&environment=live', 20],
    ['?environment=test', 20],
  ],
  '/v1/events': [
    ['?limit=200', 10],
    ['?limit=200&order=oldest_first', 10],
    ['?limit=200&type=key.revoked', 5],
    ['?type=tenant.suspended', 5],
    ['?subjectType=signing_key', 20],
    ['?subjectId=old0000000000003&type=key.created', 20],
    ['?subjectId=old0000000000003&type=key.revoked&limit=200', 5],
    ['?subjectId=never-made', 2],
    ['?type=key.updated&subjectType=tenant&order=oldest_first', 20],
  ],
  '/v1/usage': [
    [`?granularity=minute&${range(1)}`, 1],
    [`?granularity=hour&${range(31)}`, 1],
    [`?granularity=day&${range(1_000)}`, 1],
  ],
  '/v1/keys/:id/usage': [
    [`?granularity=minute&${range(1)}`, 1],
    [`?granularity=hour&${range(31)}`, 1],
    [`?granularity=day&${range(1_000)}`, 1],
  ],
  '/v1/keys/:id': [['', 1]],
  '/v1/keys/:id/versions': [['', 1]],
  '/v1/self': [['', 1]],
  // It is looked for, and nothing is stored for the root key.
  '/v1/self/next': [['', 1, 404]],
  '/v1/signing-keys': [['', 1]],
  '/v1/tenants': [['?limit=200', 1]],
  '/v1/tenants/:id': [['', 1]],
};

test('every route that reads is in the table of this test', () => {
  const reading = allOperations(service.auth, config)
    .filter(({ method, access }) => method === 'GET' && access.kind !== 'public')
    .map(({ url }) => url);
  expect(Object.keys(READS).toSorted()).toEqual(reading.toSorted());
});

const CALLS = Object.entries(READS).flatMap(([url, asked]) =>
  asked.map(([query, max, status = 200]) => [url, query, max, status] as const),
);

test.each(CALLS)(
  'I9: GET %s%s does not hold the event loop',
  async (url, query, max, status) => {
    const target = url.replace('/v1/tenants/:id', '/v1/tenants/default').replace(':id', id) + query;
    expect(await heldMs(() => pages(target, max, status), ENOUGH)).toBeLessThan(HELD_MS_MAX);
  },
  SETUP_MS,
);

test(
  'fifty searches at once, and verifications meanwhile',
  async () => {
    const { key } = await service.auth.keys.create({ userId: 'u', name: 'busy', permissions: ['a:b'] });
    const held = await heldMs(async () => {
      const searches = Array.from({ length: 50 }, () => call('GET', '/v1/keys?q=nothing-has-this-name'));
      for (let n = 0; n < 100; n += 1) {
        expect((await call('POST', '/v1/keys/verify', { key, permissions: ['a:b'] })).body).toMatchObject({
          valid: true,
        });
      }
      // Those that have waited for too long are told so.
      for (const { status } of await Promise.all(searches)) expect([200, 503]).toContain(status);
    }, ENOUGH);
    expect(held).toBeLessThan(HELD_MS_MAX);
  },
  SETUP_MS,
);

test(
  'verifying 256 permissions against 256',
  async () => {
    const permissions = Array.from({ length: 256 }, (_, n) => `${'x'.repeat(110)}:${n}`);
    const { key } = await service.auth.keys.create({ userId: 'u', name: 'many', permissions });
    const held = await heldMs(async () => {
      const { body } = await call('POST', '/v1/keys/verify', { key, permissions: permissions.toReversed() });
      expect(body).toMatchObject({ valid: true });
    }, ENOUGH);
    expect(held).toBeLessThan(HELD_MS_MAX);
  },
  SETUP_MS,
);

test(
  `a revocation with cascade over ${CHILDREN} children`,
  async () => {
    const family = async (): Promise<string> => {
      const { key, apiKey } = await service.auth
        .tenant('default')
        .keys.create({ userId: 'u', name: 'parent', permissions: ['pantheon:keys:create'] });
      for (let n = 0; n < CHILDREN; n += AT_ONCE) {
        const made = Array.from({ length: AT_ONCE }, () =>
          call('POST', '/v1/keys', { userId: 'u', name: 'child' }, key),
        );
        for (const { status } of await Promise.all(made)) expect(status).toBe(201);
      }
      return apiKey.id;
    };
    const parents: string[] = [];
    for (let n = 0; n < FAMILIES; n += 1) parents.push(await family());
    const held = await heldMs(
      async () => {
        const answer = await call('POST', `/v1/keys/${parents.pop()}/revoke?cascade=true`, {});
        expect(answer.status).toBe(200);
      },
      { enoughMs: Number.POSITIVE_INFINITY },
    );
    const { items } = await service.auth.tenant('default').keys.list({ userId: 'u', state: 'active', q: 'child' });
    expect(items).toEqual([]);
    expect(held).toBeLessThan(HELD_MS_MAX);
  },
  SETUP_MS,
);
