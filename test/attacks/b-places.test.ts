/**
 * Attacks with key strings in places: headers that say two things, addresses that are written down, statements that
 * would take text for code, and answers that show a key a second time. What is not attacked here, and why, is in the
 * table of `b-keys.test.ts`.
 */
import type { AddressInfo } from 'node:net';
import { formatKey, parseKey } from 'pantheon-auth';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  expectNoSecretWritten,
  keepSecret,
  noteWritten,
  openService,
  type Service,
  statementsOf,
  tellable,
} from './harness.ts';
import { getWith, sendRaw } from './raw-http.ts';

let service: Service;
let key: string;
let keyId: string;
let port: number;
let senders = 0;

beforeAll(async () => {
  service = await openService();
  const created = await service.engine.create({ permissions: ['docs:read'] });
  key = created.key;
  keyId = created.apiKey.id;
  await service.app.listen({ port: 0, host: '127.0.0.1' });
  ({ port } = service.app.server.address() as AddressInfo);
});

afterAll(() => service[Symbol.asyncDispose]());

/** Nobody has failed from there yet. */
function newAddress(): string {
  senders += 1;
  return `10.2.${senders >> 8}.${senders & 255}`;
}

async function expectAlive(): Promise<void> {
  expect(await service.auth.verify({ key, permissions: ['docs:read'] })).toMatchObject({ valid: true });
}

test('a credential is accepted in one form of header', async () => {
  const basic = (text: string) => Buffer.from(text).toString('base64');
  const rows: readonly (readonly [readonly string[], number])[] = [
    ...['Bearer', 'bearer', 'BEARER', 'bEaReR'].map((scheme) => [[`Authorization: ${scheme} ${key}`], 200] as const),
    [[`X-API-Key: ${key}`], 200],
    [[`x-api-key:${key}`], 200],
    ...[
      'Bearer  ',
      'Bearer\t',
      'Bearer',
      'Bearer:',
      'Bearer=',
      'Token ',
      'ApiKey ',
      'Key ',
      'DPoP ',
      'Digest ',
      'Negotiate ',
      'Basic ',
      '',
    ].map((scheme) => [[`Authorization: ${scheme}${key}`], 401] as const),
    ...[
      `Basic ${basic(key)}`,
      `Basic ${basic(`${keyId}:${key}`)}`,
      `Basic ${basic(`:${key}`)}`,
      'Bearer',
      'Bearer ',
      'Bearer null',
    ].map((value) => [[`Authorization: ${value}`], 401] as const),
    ...[`Bearer ${key} `, `  Bearer ${key}`].map((value) => [[`Authorization: ${value}`], 200] as const),
    ...[
      `Bearer ${key} ${key}`,
      `Bearer "${key}"`,
      `Bearer ${key}=`,
      `Bearer ${key};`,
      `Bearer key=${key}`,
      `Bearer Bearer ${key}`,
    ].map((value) => [[`Authorization: ${value}`], 401] as const),
    [[`Authorization: Bearer ${key},`], 400],
    [[`Authorization: Bearer ${key}, Bearer ${key}`], 400],
    [[`X-API-Key: ${key}, ${key}`], 400],
    [[`Authorization: Bearer ${key}`, `Authorization: Bearer ${key}`], 400],
    [[`Authorization: Bearer ${key}`, 'Authorization: Bearer nonsense'], 400],
    [['Authorization: Bearer nonsense', `Authorization: Bearer ${key}`], 400],
    [['Authorization:', `Authorization: Bearer ${key}`], 400],
    // Generated clients send one credential in every header that they know of: it counts once.
    [[`Authorization: Bearer ${key}`, `X-API-Key: ${key}`], 200],
    [[`Authorization: Bearer ${key}`, `X-API-Key: ${key}0`], 400],
    [[`Authorization: Bearer ${key}`, 'X-API-Key: nonsense'], 400],
    [[`X-API-Key: ${key}`, 'Authorization: Basic x'], 400],
    [[`X-API-Key: ${key}`, 'X-API-Key: nonsense'], 400],
    [[`X-API-Key: ${key}`, 'X-API-Key:'], 400],
    // The second credential hides behind more headers than Node keeps by default.
    [[`X-API-Key: ${key}`, ...Array.from({ length: 1_200 }, (_, at) => `a${at}:`), 'X-API-Key: b'], 400],
    ...[
      'Proxy-Authorization: Bearer',
      'X-Authorization: Bearer',
      'X-Auth-Token:',
      'Api-Key:',
      'X_API_Key:',
      'X-API-Key-:',
      'Cookie: key=',
    ].map((name) => [[`${name} ${key}`], 401] as const),
    [[`Authorization : Bearer ${key}`], 400],
    [[` Authorization: Bearer ${key}`], 400],
    [[`Authorization: Bearer\r\n ${key}`], 400],
    [[`X-Other: a\r\n X-API-Key: ${key}`], 400],
    [[`Authorization: Bearer ${key}\0`], 400],
    [[`X-Other: \0`, `X-API-Key: ${key}`], 400],
  ];
  for (const [lines, status] of rows) {
    // The clock forgives what was failed from this one address.
    service.engine.clock.advance(2_000);
    const answer = await sendRaw(port, getWith(lines));
    noteWritten(answer.text);
    expect(
      answer.status,
      lines
        .map((line) => line.replaceAll(key, '<key>').slice(0, 80))
        .join(' | ')
        .slice(0, 200),
    ).toBe(status);
    if (status === 401) expect(answer.text).toMatch(/www-authenticate: bearer/i);
  }
});

test('a key in a part of a request that is logged or stored is refused, valid or not, and not written', async () => {
  const encoded = key.replaceAll('_', '%5F');
  const paths = [
    ...[
      `/v1/self?key=${key}`,
      `/v1/self?api_key=${key}`,
      `/v1/self?access_token=${encoded}`,
      `/v1/self?x=1&y=${key}&z`,
      `/v1/self?${key}`,
    ],
    ...[`/v1/keys/${key}`, `/v1/keys/${encoded}/rotate`, `/${key}`, `/v1/self/${key}/x`, `/v1/keys?q=${key}`],
    ...[
      `/healthz?key=${key}`,
      `/.well-known/jwks.json?k=${key}`,
      `/openapi.json?${key}`,
      `/nowhere/${key}`,
      `//${key}@localhost/`,
      `/v1/keys?cursor=${key}`,
    ],
  ];
  for (const path of paths) {
    for (const method of ['GET', 'POST', 'PUT', 'OPTIONS'] as const) {
      for (const headers of [{}, { authorization: `Bearer ${key}` }]) {
        const answer = await service.call({ method, url: path, headers, remoteAddress: newAddress() });
        expect(answer.status, path.replaceAll(key, '<key>')).toBe(400);
        expect(answer.json()).toMatchObject({ code: 'credential_in_url' });
      }
    }
  }
  // A fragment is no part of an address that a client sends; who sends one anyway is heard the same.
  expect((await sendRaw(port, getWith([`X-API-Key: ${key}`], `/v1/self#${key}`))).status).toBe(400);
  const places = [
    { cookie: `key=${key}; authorization=Bearer ${key}` },
    { referer: `https://app.example/?key=${key}` },
    { 'sec-websocket-protocol': `bearer, ${key}` },
    { origin: `https://${key}` },
    { 'user-agent': key },
    { 'x-request-id': key },
    { 'pantheon-tenant': key },
    { 'idempotency-key': key },
    { 'if-none-match': key },
  ];
  for (const headers of places) {
    const answer = await service.call({ method: 'GET', url: '/v1/self', headers, remoteAddress: newAddress() });
    expect(answer.json()).toMatchObject({ status: 401, code: 'missing_credential' });
  }
  const bodies = [
    { headers: { 'content-type': 'application/x-www-form-urlencoded' }, payload: `key=${key}&access_token=${key}` },
    {
      headers: { 'content-type': 'application/json' },
      payload: JSON.stringify({ key, access_token: key, authorization: `Bearer ${key}` }),
    },
  ];
  for (const body of bodies) {
    for (const url of ['/v1/keys', '/v1/keys/verify', '/v1/self/revoke', '/v1/tenants']) {
      expect((await service.call({ method: 'POST', url, ...body, remoteAddress: newAddress() })).status).toBe(401);
    }
  }
  // Also where it came with somebody else's good credential, and is about to enter the audit trail.
  const about = { 'user-agent': `curl ${key}`, referer: `https://x/?${key}`, 'x-forwarded-for': key };
  const made = await service.call({
    method: 'POST',
    url: '/v1/tenants',
    by: service.root,
    headers: about,
    payload: { id: 'headers' },
  });
  expect(made.status).toBe(201);
  const events = await service.call({
    method: 'GET',
    url: '/v1/events',
    by: service.root,
    headers: { 'pantheon-tenant': 'headers' },
  });
  expect(events.text).toContain('tenant.created');
  await expectAlive();
});

function tokenFor(subject: string) {
  const form = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: subject,
    subject_token_type: 'urn:pantheon-auth:params:oauth:token-type:api-key',
  });
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  return service.call({
    method: 'POST',
    url: '/oauth2/token',
    headers,
    payload: form.toString(),
    remoteAddress: newAddress(),
  });
}

test('a key in a URL is recorded for its own tenant once, and a forged one for none', async () => {
  await service.auth.tenants.create({ id: 'exposed' });
  const { key: shown, apiKey } = await service.engine.create({}, 'exposed');
  const parsed = parseKey(shown);
  const forged = formatKey({ ...(parsed ?? never()), secret: parseKey(key)?.secret ?? '' });
  const send = (text: string) =>
    service.call({ method: 'GET', url: `/v1/self?key=${text}`, remoteAddress: newAddress() });
  const told = async (tenant: string) => {
    const url = `/v1/events?type=key.exposed_in_url&subjectId=${apiKey.id}`;
    const headers = { 'pantheon-tenant': tenant };
    return (await service.call({ method: 'GET', url, by: service.root, headers })).json()['items'] as unknown[];
  };
  const refused = tellable(await send(forged));
  for (let at = 0; at < 20; at += 1) expect(tellable(await send(forged))).toEqual(refused);
  expect(await told('exposed')).toEqual([]);
  // Who sent it learns nothing from the answer about which of the two it was.
  for (let at = 0; at < 5; at += 1) expect(tellable(await send(shown))).toEqual(refused);
  expect((await told('exposed')).length).toBe(1);
  expect(await told('default')).toEqual([]);
});

function never(): never {
  throw new Error('it is a key');
}

const HOSTILE = [
  ...[
    "'",
    "' OR 1=1--",
    "'; DROP TABLE api_keys;--",
    '\\',
    "\\'",
    '$1',
    '?',
    '%',
    '_',
    '%%',
    '"',
    '`',
    ';',
    '--',
    '/*',
    '*/',
    ')',
    "')",
  ],
  ...[
    '\u02bc',
    '\uff07',
    "1' UNION SELECT value FROM meta--",
    '{{7*7}}',
    '$'.concat('{7*7}'),
    '%27',
    "'||(select 1)||'",
    ':id',
    '@p',
    '*',
    "'".repeat(100),
  ],
];

/** Every place where text of a caller goes towards the store. The same requests, with whatever text. */
async function everyPlace(text: string): Promise<void> {
  const by = service.root;
  const query = encodeURIComponent(text);
  const path = encodeURIComponent(text);
  for (const name of ['q', 'userId', 'state', 'environment', 'cursor', 'limit']) {
    await service.call({ method: 'GET', url: `/v1/keys?${name}=${query}`, by });
  }
  for (const name of ['type', 'subjectType', 'subjectId', 'order', 'cursor', 'limit']) {
    await service.call({ method: 'GET', url: `/v1/events?${name}=${query}`, by });
  }
  for (const name of ['from', 'to', 'granularity'])
    await service.call({ method: 'GET', url: `/v1/usage?${name}=${query}`, by });
  for (const rest of ['', '/versions', '/usage'])
    await service.call({ method: 'GET', url: `/v1/keys/${path}${rest}`, by });
  for (const rest of ['rotate', 'revoke', 'suspend', 'resume', 'versions/1/retire', `versions/${path}/retire`]) {
    await service.call({ method: 'POST', url: `/v1/keys/${path}/${rest}`, by, payload: { reason: text } });
  }
  await service.call({ method: 'PATCH', url: `/v1/keys/${path}`, by, payload: { name: text } });
  for (const method of ['GET', 'PATCH', 'DELETE'] as const)
    await service.call({ method, url: `/v1/tenants/${path}`, by, payload: { name: text } });
  await service.call({ method: 'POST', url: '/v1/tenants', by, payload: { id: text, name: text } });
  await service.call({ method: 'GET', url: `/v1/tenants?cursor=${query}&limit=${query}`, by });
  await service.call({ method: 'POST', url: '/v1/keys/verify', by, payload: { key: text, permissions: [text] } });
  await service.call({ method: 'POST', url: '/v1/keys/verify', by, payload: { key: text } });
  await tokenFor(text);
  if (!/^[\x21-\x7e]+$/.test(text)) return;
  for (const name of ['idempotency-key', 'pantheon-tenant', 'user-agent', 'x-request-id', 'x-forwarded-for']) {
    await service.call({ method: 'GET', url: '/v1/keys', by, headers: { [name]: text } });
  }
}

/** What a caller may freely choose, stored and read back as it is. */
async function storedAsItIs(text: string): Promise<void> {
  const by = service.root;
  const payload = { userId: text, name: text, description: text, metadata: { [text]: text } };
  const headers = { 'idempotency-key': encodeURIComponent(text) };
  const made = await service.call({ method: 'POST', url: '/v1/keys', by, headers, payload, secret: true });
  expect(made.status).toBe(201);
  const { key: shown, apiKey } = made.json() as { key: string; apiKey: { id: string } };
  keepSecret(shown);
  const reason = { reason: text };
  await service.call({ method: 'POST', url: `/v1/keys/${apiKey.id}/suspend`, by, payload: reason });
  const read = await service.call({ method: 'GET', url: `/v1/keys/${apiKey.id}`, by });
  expect(read.json()).toMatchObject({ ...payload, stateReason: text });
  const found = await service.call({
    method: 'GET',
    url: `/v1/keys?userId=${encodeURIComponent(text)}&q=${encodeURIComponent(text)}`,
    by,
  });
  expect((found.json()['items'] as { id: string }[]).map(({ id }) => id)).toEqual([apiKey.id]);
}

/** Written by a timer, at any moment and in batches of any size, from what was counted: no text of a caller is in it. */
const COUNTING =
  /^(?:begin immediate$|commit$|[^']*"(?:usage_batches|usage_counts|key_usage|tenant_usage|version_usage|key_schedules)")[^']*$/;

test('input of callers is a parameter of every statement and never part of its text', async () => {
  const known = new Set<string>();
  const { apiKey } = await service.engine.create();
  for (const text of ['harmless', apiKey.id, '10'])
    for (const sql of await statementsOf(() => everyPlace(text))) known.add(sql);
  for (const sql of await statementsOf(() => storedAsItIs('harmless'))) known.add(sql);
  expect(known.size).toBeGreaterThan(10);
  for (const text of HOSTILE) {
    const ran = await statementsOf(async () => {
      await everyPlace(text);
      await storedAsItIs(text);
    });
    expect([...new Set(ran)].filter((sql) => !known.has(sql) && !COUNTING.test(sql))).toEqual([]);
  }
  const quotes = await service.call({
    method: 'POST',
    url: '/v1/keys/verify',
    by: service.root,
    payload: { key: "'".repeat(60_000) },
  });
  expect(quotes.json()).toEqual({ valid: false, code: 'malformed' });
  await expectAlive();
}, 60_000);

test('a key string is shown once and in no other answer', async () => {
  const by = service.root;
  const headers = { 'idempotency-key': 'create-once' };
  const payload = {
    userId: 'user-9',
    name: 'once',
    permissions: ['docs:read'],
    rotation: { overlap: '1h' },
    jwt: { algorithm: 'HS256' },
  };
  const create = () => service.call({ method: 'POST', url: '/v1/keys', by, headers, payload, secret: true });
  const first = (await create()).json() as { key: string; apiKey: { id: string } };
  const again = (await create()).json() as typeof first;
  keepSecret(first.key, again.key);
  expect(again.apiKey.id).toBe(first.apiKey.id);
  expect(again.key).not.toBe(first.key);
  expect(await service.auth.verify({ key: first.key })).toMatchObject({ valid: false, secretVerified: false });
  expect(await service.auth.verify({ key: again.key })).toMatchObject({ valid: true });
  // Used once, it is its holder's: nobody gets another string by asking again.
  expect((await create()).json()).toMatchObject({ code: 'already_claimed' });
  const other = await service.call({
    method: 'POST',
    url: '/v1/keys',
    by,
    headers,
    payload: { ...payload, name: 'other' },
    secret: true,
  });
  expect(other).toMatchObject({ status: 422 });

  const { id } = first.apiKey;
  const rotate = await service.call({
    method: 'POST',
    url: `/v1/keys/${id}/rotate`,
    by,
    payload: { overlap: '1h' },
    secret: true,
  });
  const rotated = rotate.json() as typeof first;
  keepSecret(rotated.key);
  const answers = await Promise.all([
    ...[
      `/v1/keys/${id}`,
      '/v1/keys',
      `/v1/keys/${id}/versions`,
      `/v1/keys/${id}/usage`,
      '/v1/usage',
      '/v1/events?limit=200',
      '/openapi.json',
    ].map((url) => service.call({ method: 'GET', url, by })),
    service.call({ method: 'GET', url: '/v1/self', by: rotated.key }),
    service.call({ method: 'POST', url: '/v1/keys/verify', by, payload: { key: rotated.key } }),
    service.call({ method: 'PATCH', url: `/v1/keys/${id}`, by, payload: { name: 'renamed' } }),
    service.call({ method: 'POST', url: `/v1/keys/${id}/versions/1/retire`, by }),
  ]);
  // By itself: a version of a revoked key is not retired.
  answers.push(await service.call({ method: 'POST', url: `/v1/keys/${id}/revoke`, by }));
  for (const answer of answers) {
    expect(answer.status).toBe(200);
    for (const shown of [first.key, again.key, rotated.key]) expect(answer.text).not.toContain(shown.slice(25, 45));
    expect(answer.text).not.toMatch(/keyHash|"sealed"|signingSecret/);
  }
});

test('none of these attacks caused a secret to be written', () => {
  expectNoSecretWritten();
});
