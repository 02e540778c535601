/** Rotation seen from outside, over HTTP: by the holder under load, and by the service on a schedule. */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { compactDecrypt } from 'jose';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { describeWithPostgres, scratchPostgres, scratchRedis } from '../../../tools/servers/scratch.ts';
import { nextSecretSchema } from '../src/api/self/schemas.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

vi.setConfig({ testTimeout: 120_000 });

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

async function service(flags: Parameters<typeof openScratchService>[0] = {}): Promise<ScratchService> {
  const opened = await openScratchService(flags);
  open.push({ [Symbol.asyncDispose]: () => opened.close() });
  return opened;
}

const ROTATIONS = 200;
const CLIENTS = 4;

/**
 * A holder that claims the next version again and again, while its clients use whichever string it has. Before it claims
 * again it waits until each of them has used the new one: a third version would end the one that they still send.
 */
async function rotatesUnderLoad(nodes: readonly ScratchService[]): Promise<void> {
  const [first] = nodes;
  if (first === undefined) throw new Error('a node');
  const { key } = await first.create({ rotation: { every: '1d', overlap: '1h' }, permissions: ['docs:read'] });
  let current = key;
  let version = 1;
  let isDone = false;
  const refused: unknown[] = [];
  const usedBy = new Array<number>(CLIENTS).fill(0);
  const nodeOf = (nth: number): ScratchService => nodes[nth % nodes.length] ?? first;
  const clients = usedBy.map(async (_, client) => {
    for (let nth = client; !isDone; nth += 1) {
      const [presented, presentedVersion] = [current, version];
      const answer = await nodeOf(nth).call('GET', '/v1/self', { key: presented });
      if (answer.status !== 200) refused.push(answer.body);
      usedBy[client] = presentedVersion;
    }
  });
  for (let nth = 1; nth <= ROTATIONS; nth += 1) {
    const answer = await nodeOf(nth).call('POST', '/v1/self/rotate', { key: current, body: { expectedVersion: nth } });
    if (answer.status !== 201) refused.push(answer.body);
    current = String(answer.body['key']);
    version = nth + 1;
    while (refused.length === 0 && usedBy.some((used) => used < version)) await pause(1);
    if (refused.length > 0) break;
  }
  isDone = true;
  await Promise.all(clients);
  expect(refused).toEqual([]);
  expect(version).toBe(ROTATIONS + 1);
}

describe('a holder that claims in a loop rotates 200 times under load, and no request of it fails', () => {
  test('on one node', async () => rotatesUnderLoad([await service()]));

  describeWithPostgres('on three nodes', () => {
    test('that share a database', async () => {
      const postgres = await scratchPostgres();
      const redis = await scratchRedis();
      open.push(postgres, redis);
      const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-rotation-'));
      open.push({ [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true }) });
      const stores = { DATABASE_URL: postgres.url, REDIS_URL: redis.url };
      const MASTER_KEY = randomBytes(32).toString('hex');
      const flags = { ...stores, MASTER_KEY, ROOT_KEY_FILE: join(folder, 'root.key') };
      await rotatesUnderLoad([await service(flags), await service(flags), await service(flags)]);
    });
  });
});

test('a key that is due every two seconds is rotated without a call of the management API; who slept through it gets the next secret with the old string', async () => {
  const { create, call } = await service();
  const { publicKey, privateKey } = generateKeyPairSync('x25519');
  const recipientJwk = publicKey.export({ format: 'jwk' });
  const { key, apiKey } = await create({ rotation: { every: '2s', overlap: '1s', recipientJwk } });
  expect(await call('GET', '/v1/self/next', { key })).toMatchObject({ status: 404, body: { code: 'not_found' } });
  expect((await call('GET', '/v1/self', { key })).status).toBe(200);

  // The service rotates it; nobody asks for it.
  const status = async (): Promise<number> => (await call('GET', '/v1/self', { key })).status;
  await expect.poll(status, { timeout: 20_000, interval: 200 }).toBe(401);
  expect(await call('GET', '/v1/self', { key })).toMatchObject({ body: { code: 'version_retired' } });

  const answer = await call('GET', '/v1/self/next', { key });
  expect(answer.status).toBe(200);
  expect(answer.headers['cache-control']).toBe('no-store');
  const { version, jwe, acceptedUntil } = nextSecretSchema.parse(answer.body);
  expect(version).toBe(2);
  expect(Date.parse(String(acceptedUntil))).toBeLessThan(Date.now());
  const next = Buffer.from((await compactDecrypt(jwe, privateKey)).plaintext).toString();
  expect(await call('GET', '/v1/self', { key: next })).toMatchObject({
    status: 200,
    body: { id: apiKey.id, version: 2 },
  });

  // Nothing else can be done with the old string, and once the new one is used, not even that.
  for (const [method, url] of [
    ['GET', '/v1/self'],
    ['POST', '/v1/self/rotate'],
    ['GET', '/v1/keys'],
  ] as const)
    expect(await call(method, url, { key })).toMatchObject({ status: 401, body: { code: 'version_retired' } });
  expect((await call('GET', '/v1/self/next', { key })).status).toBe(404);
});

test('the next secret is told to nobody but the holder of the version before it', async () => {
  const { create, call, auth } = await service();
  const recipientJwk = generateKeyPairSync('x25519').publicKey.export({ format: 'jwk' });
  const { key, apiKey } = await create({ rotation: { every: '10s', overlap: '9s', recipientJwk } });
  const other = await create({});
  await call('GET', '/v1/self', { key });
  await expect.poll(async () => (await auth.keys.get(apiKey.id)).version, { timeout: 20_000, interval: 200 }).toBe(2);
  expect((await call('GET', '/v1/self/next', { key })).status).toBe(200);
  expect((await call('GET', '/v1/self/next', { key: other.key })).status).toBe(404);
  expect(await call('GET', '/v1/self/next', { key: null })).toMatchObject({
    status: 401,
    body: { code: 'missing_credential' },
  });
  const wrong = `${key.slice(0, -7)}${key.slice(-7).replaceAll(/./g, 'a')}`;
  expect(await call('GET', '/v1/self/next', { key: wrong })).toMatchObject({
    status: 401,
    body: { code: 'invalid_key' },
  });
  const token = await call('POST', '/oauth2/token', {
    key: null,
    form: `grant_type=client_credentials&client_id=${apiKey.id}&client_secret=${key}`,
  });
  expect(token.status).toBe(200);
  expect(await call('GET', '/v1/self/next', { key: String(token.body['access_token']) })).toMatchObject({
    status: 401,
  });
  await auth.keys.suspend(apiKey.id);
  expect(await call('GET', '/v1/self/next', { key })).toMatchObject({ status: 403, body: { code: 'suspended' } });
  await auth.keys.revoke(apiKey.id);
  expect(await call('GET', '/v1/self/next', { key })).toMatchObject({ status: 401, body: { code: 'revoked' } });
});

test('naming a recipient needs the permission to rotate, and a private key is stored nowhere', async () => {
  const { create, call } = await service();
  const { publicKey, privateKey } = generateKeyPairSync('x25519');
  const rotation = { every: '30d', recipientJwk: publicKey.export({ format: 'jwk' }) };
  const creator = await create({ permissions: ['pantheon:keys:create', 'pantheon:keys:update'] });
  const body = { userId: creator.apiKey.userId, name: 'n', rotation };
  expect(await call('POST', '/v1/keys', { key: creator.key, body })).toMatchObject({
    status: 403,
    body: { code: 'insufficient_permissions' },
  });
  const made = await call('POST', '/v1/keys', { key: creator.key, body: { ...body, rotation: { every: '30d' } } });
  expect(made.status).toBe(201);
  const { id } = made.body['apiKey'] as { id: string };
  const change = { key: creator.key, body: { rotation } };
  expect(await call('PATCH', `/v1/keys/${id}`, change)).toMatchObject({ status: 403 });
  const secret = privateKey.export({ format: 'jwk' });
  const refused = await call('POST', '/v1/keys', {
    body: { ...body, rotation: { every: '30d', recipientJwk: secret } },
  });
  expect(refused).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'rotation.recipientJwk' } });
  expect(refused.text).not.toContain(String(secret.d));
});

test('a rotation is rolled back while the version before it is accepted; with force also when the new one was used', async () => {
  const { create, call } = await service();
  const { key, apiKey } = await create({});
  const path = `/v1/keys/${apiKey.id}`;
  const rotate = async () => String((await call('POST', `${path}/rotate`, { body: { overlap: '1h' } })).body['key']);
  const unused = await rotate();
  expect(await call('POST', `${path}/rollback`)).toMatchObject({ status: 200, body: { id: apiKey.id, version: 1 } });
  expect(await call('GET', '/v1/self', { key: unused })).toMatchObject({
    status: 401,
    body: { code: 'version_retired' },
  });
  expect((await call('GET', '/v1/self', { key })).status).toBe(200);
  expect(await call('POST', `${path}/rollback`)).toMatchObject({ status: 409, body: { code: 'version_conflict' } });

  const used = await rotate();
  expect((await call('GET', '/v1/self', { key: used })).status).toBe(200);
  expect(await call('POST', `${path}/rollback`)).toMatchObject({ status: 409, body: { code: 'version_in_use' } });
  const without = await create({ permissions: ['pantheon:keys:rotate'] });
  const forced = { key: without.key };
  expect(await call('POST', `${path}/rollback?force=true`, forced)).toMatchObject({ status: 403 });
  expect(await call('POST', `${path}/rollback?force=true`)).toMatchObject({ status: 200, body: { version: 1 } });
  expect((await call('GET', '/v1/self', { key: used })).status).toBe(401);
});
