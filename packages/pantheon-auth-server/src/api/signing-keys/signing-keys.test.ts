import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openScratchService, type ScratchService } from '../../../test/scratch-service.ts';
import { createApp } from '../../app.ts';
import { createLogger } from '../../http/logging.ts';
import { openService } from '../../service/open.ts';
import { signingKeySchema, signingKeysSchema } from './schemas.ts';

let service: ScratchService;
beforeAll(async () => {
  service = await openScratchService();
});
afterAll(() => service.close());

const call = async (method: 'GET' | 'POST', url: string, payload?: object, key = service.rootKey) => {
  const headers = { authorization: `Bearer ${key}` };
  const answer = await service.app.inject({ method, url, headers, ...(payload && { payload }) });
  return { status: answer.statusCode, body: answer.json() };
};

test('the standby key replaces the current one, and one is retired', async () => {
  const before = await call('GET', '/v1/signing-keys');
  expect(before.status).toBe(200);
  const items = signingKeySchema.array().parse(before.body.items);
  expect(items).toHaveLength(6);
  const rotated = await call('POST', '/v1/signing-keys', { algorithm: 'Ed25519' });
  expect(rotated.status).toBe(201);
  const next = signingKeySchema.parse(rotated.body);
  expect(items.find(({ kid }) => kid === next.kid)).toMatchObject({ state: 'standby', algorithm: 'Ed25519' });
  expect(next).toMatchObject({ state: 'next', signsFrom: expect.any(String) });

  const signing = items.find(({ algorithm, state }) => algorithm === 'RS256' && state === 'signing');
  const retired = await call('POST', `/v1/signing-keys/${signing?.kid}/retire`, { compromised: true });
  expect(retired.status).toBe(200);
  const left = signingKeySchema
    .array()
    .parse(retired.body.items)
    .filter(({ algorithm }) => algorithm === 'RS256');
  expect(left.map(({ state }) => state).toSorted()).toEqual(['next', 'standby']);
  // Idempotent.
  expect(await call('POST', `/v1/signing-keys/${signing?.kid}/retire`)).toMatchObject({ status: 200 });
  expect(await call('POST', '/v1/signing-keys/none/retire')).toMatchObject({ status: 404 });
});

test('a damaged one is listed in the form that the API documents', async () => {
  const { auth, config, rootKey } = service;
  if (config.database.kind !== 'sqlite') throw new Error('It is a test of SQLite.');
  const damaged = auth.tokens
    .signingKeys()
    .find(({ algorithm, state }) => algorithm === 'ES256' && state === 'signing');
  const kid = damaged?.kid ?? '';
  const database = new DatabaseSync(config.database.file);
  database.prepare('update signing_keys set sealed = substr(sealed, 1, 50) where kid = ?').run(kid);
  database.close();
  const node = await openService(config, createLogger('silent'));
  const app = await createApp({ auth: node.auth, config, logger: createLogger('silent') });
  try {
    const headers = { authorization: `Bearer ${rootKey}` };
    const answer = await app.inject({ method: 'GET', url: '/v1/signing-keys', headers });
    const { items } = signingKeysSchema.parse(answer.json());
    expect(items.at(-1)).toEqual({ kid, algorithm: 'ES256', quarantined: true });
  } finally {
    await app.close();
    await node.close();
  }
});

test('an unknown algorithm is refused with its field, and a caller outside the system tenant gets 404', async () => {
  expect(await call('POST', '/v1/signing-keys', { algorithm: 'HS256' })).toMatchObject({
    status: 400,
    body: { field: 'algorithm' },
  });
  const { keys } = service.auth.tenant('default');
  const permissions = ['pantheon:signing-keys:*'];
  const { key } = await keys.create({ userId: 'u', name: 'n', permissions });
  for (const [method, url, body] of [
    ['GET', '/v1/signing-keys', undefined],
    ['POST', '/v1/signing-keys', { algorithm: 'ES256' }],
    ['POST', '/v1/signing-keys/any/retire', {}],
  ] as const)
    expect(await call(method, url, body, key)).toMatchObject({ status: 404 });
});
