/**
 * Attacks, and accidents, with a credential in a text that is written down: it is refused in every member of every body,
 * is found nowhere afterwards, and the tenant of the key is told.
 */
import { readFileSync } from 'node:fs';
import { loadConfig } from 'pantheon-auth-server';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { allOperations } from '../../packages/pantheon-auth-server/src/app.ts';
import { bodyMembers, withMember } from '../../packages/pantheon-auth-server/test/body-members.ts';
import { expectNoSecretWritten, keepSecret, openService, type Service } from './harness.ts';

let service: Service;
beforeAll(async () => {
  service = await openService();
});
afterAll(() => service[Symbol.asyncDispose]());

const CREATE = { userId: 'u', name: 'n' };
const SOUND: Readonly<Record<string, object>> = { createKey: CREATE, createTenant: { id: 'acme' } };

async function exchanged(key: string): Promise<string> {
  const exchange = await service.auth.tokens.exchange({ key });
  if (!exchange.issued) throw new Error('The key of the test is valid.');
  keepSecret(exchange.token.token);
  return exchange.token.token;
}

test('a key in any text of any body that changes something is refused, and nothing is changed', async () => {
  const { auth, engine, root } = service;
  const { config } = loadConfig({ DATA_DIR: engine.dataDir }, {}, engine.dataDir);
  // What is asked about is no text: a question about a key holds one.
  const writing = allOperations(auth, config).filter(
    ({ method, id, access, body }) =>
      method !== 'GET' && body !== undefined && id !== 'verifyKey' && access.kind !== 'client',
  );
  expect(writing.map(({ id }) => id)).toEqual(expect.arrayContaining(['createKey', 'updateKey', 'revokeSelf']));
  const exposed = await engine.create();
  const texts = [exposed.key, `see ${exposed.key}, please`, await exchanged(exposed.key)];
  const target = await engine.create({ rotation: {} });
  const { createdAt: _, ...before } = { ...(await auth.keys.get(target.apiKey.id)) };
  const seen: string[] = [];
  for (const operation of writing) {
    for (const { path, isText } of bodyMembers(operation)) {
      if (!isText) continue;
      for (const text of texts) {
        const sound = SOUND[operation.id] ?? {};
        const url = operation.url
          .replace(':id', operation.url.startsWith('/v1/tenants') ? 'default' : target.apiKey.id)
          .replace(':version', '1');
        const by = operation.access.kind === 'self' ? target.key : root;
        const method = operation.method as 'POST' | 'PATCH' | 'DELETE';
        const answer = await service.call({ method, url, by, payload: withMember(sound, path, text) });
        const field = path.reduce<string>(
          (all, part) => (typeof part === 'number' ? `${all}[${part}]` : all === '' ? part : `${all}.${part}`),
          '',
        );
        expect([operation.id, answer.status, answer.json()]).toMatchObject([
          operation.id,
          400,
          { code: 'credential_in_text', field },
        ]);
        seen.push(`${operation.id} ${field}`);
      }
    }
  }
  expect(seen).toEqual(
    expect.arrayContaining([
      ...['userId', 'name', 'description', 'permissions[0]', 'metadata.some', 'jwt.customClaims.some'].map(
        (field) => `createKey ${field}`,
      ),
      ...['updateKey name', 'revokeKey reason', 'suspendKey reason', 'retireKeyVersion reason', 'revokeSelf reason'],
      ...['createTenant name', 'updateTenant name', 'suspendTenant reason'],
    ]),
  );
  const { createdAt: _now, ...after } = { ...(await auth.keys.get(target.apiKey.id)) };
  expect({ ...after, usageCount: 0, lastUsedAt: null }).toEqual({ ...before, usageCount: 0, lastUsedAt: null });
  expect((await auth.tenants.list()).items.map(({ id }) => id)).toEqual(['default', 'system']);
});

test.each([
  ['in the name of a member', (key: string) => ({ ...CREATE, metadata: { [key]: 1 } }), 'metadata.?'],
  [
    'deep inside',
    (key: string) => ({ ...CREATE, metadata: { a: [{ b: ['x', { c: `k=${key}` }] }] } }),
    'metadata.a[0].b[1].c',
  ],
  ['in an unknown member', (key: string) => ({ ...CREATE, note: key }), 'note'],
  ['escaped, as in an address', (key: string) => ({ ...CREATE, name: `?k=${key.replaceAll('_', '%5F')}` }), 'name'],
  ['with its last characters cut off', (key: string) => ({ ...CREATE, name: key.slice(0, -9) }), 'name'],
  ['with more after it', (key: string) => ({ ...CREATE, name: `${key}0` }), 'name'],
  ['of another prefix', (key: string) => ({ ...CREATE, name: key.replace('pan_', 'acme_') }), 'name'],
  ['in a list', (key: string) => ({ ...CREATE, jwt: { audience: ['a', key] } }), 'jwt.audience[1]'],
] as const)('%s', async (_what, body, field) => {
  const { key } = await service.engine.create();
  const answer = await service.call({ method: 'POST', url: '/v1/keys', by: service.root, payload: body(key) });
  expect([answer.status, answer.json()]).toMatchObject([400, { code: 'credential_in_text', field }]);
});

test('a key as an Idempotency-Key is refused by every operation that accepts one', async () => {
  const { key, apiKey } = await service.engine.create({ rotation: {} });
  for (const [url, by, payload] of [
    ['/v1/keys', service.root, CREATE],
    [`/v1/keys/${apiKey.id}/rotate`, service.root, {}],
    ['/v1/self/rotate', key, {}],
  ] as const) {
    const answer = await service.call({ method: 'POST', url, by, payload, headers: { 'idempotency-key': key } });
    expect([url, answer.json()]).toMatchObject([url, { code: 'credential_in_text', field: 'Idempotency-Key' }]);
  }
});

test('the public part of a key, and words that resemble one, are accepted in a text', async () => {
  const { apiKey } = await service.engine.create();
  for (const name of [
    `rotated from ${apiKey.hint}`,
    apiKey.id,
    'load_test_environmentOfTheWholeTeam',
    'sk_live_short',
    'eyJhbGciOiJIUzI1NiJ9 is the start of a header',
  ])
    await service.auth.keys.create({ ...CREATE, name });
});

test('the tenant of the key gets one event, which contains nothing of the text', async () => {
  const { auth, root } = service;
  await auth.tenants.create({ id: 'other' });
  const { key, apiKey } = await service.engine.create({}, 'other');
  const userAgent = 'curl/8';
  for (const reason of [key, `again ${key}`]) {
    const { apiKey: target } = await service.engine.create();
    const url = `/v1/keys/${target.id}/revoke`;
    const answer = await service.call({
      method: 'POST',
      url,
      by: root,
      payload: { reason },
      headers: { 'user-agent': userAgent },
    });
    expect(answer.status).toBe(400);
    expect(await auth.keys.get(target.id)).toMatchObject({ isActive: true });
  }
  const { items } = await auth.events.list('other', { type: 'key.exposed_in_text' });
  expect(items).toMatchObject([
    {
      subject: { id: apiKey.id },
      reason: null,
      before: null,
      after: null,
      actor: { keyId: null, userId: null, userAgent },
    },
  ]);
  expect((await auth.events.list('default', { subjectId: apiKey.id })).items).toEqual([]);
  // In its own tenant it is told who wrote it.
  const own = await service.engine.create();
  const admin = await service.engine.create({ permissions: ['pantheon:keys:create'] });
  await service.call({ method: 'POST', url: '/v1/keys', by: admin.key, payload: { ...CREATE, name: own.key } });
  expect(
    (await auth.events.list('default', { subjectId: own.apiKey.id, type: 'key.exposed_in_text' })).items,
  ).toMatchObject([{ actor: { keyId: admin.apiKey.id } }]);
});

test('nothing of the key was written: not to the log, an answer or the database', () => {
  expectNoSecretWritten();
  for (const suffix of ['', '-wal']) {
    const file = readFileSync(`${service.engine.databaseFile}${suffix}`, 'latin1');
    expect(file).not.toMatch(/_(?:live|test)_[0-9A-Za-z]{32}/);
    expect(file).not.toMatch(/eyJ[\w-]{8,}\.eyJ/);
  }
});
