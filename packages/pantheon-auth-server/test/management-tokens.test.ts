/** Tokens at the management API: which are taken, what is in them, and what they may know. */
import { mintKeyToken } from 'pantheon-auth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { apiKeySchema } from '../src/api/keys/schemas.ts';
import { tokenSelfSchema } from '../src/api/self/schemas.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

const ORDERS = 'https://orders.example';
const MANAGER = { permissions: ['docs:read', 'pantheon:keys:read'] };
const INVALID = { status: 401, body: { code: 'wrong_audience' } };

async function tokenOf(service: ScratchService, key: string, form: readonly (readonly [string, string])[] = []) {
  const fields = [
    ['grant_type', 'client_credentials'],
    ['client_id', key.slice(9, 25)],
    ['client_secret', key],
    ...form,
  ];
  const answer = await service.call('POST', '/oauth2/token', {
    key: null,
    form: new URLSearchParams(fields as [string, string][]).toString(),
  });
  expect(answer.status, answer.text).toBe(200);
  return { token: String(answer.body['access_token']), scope: answer.body['scope'] };
}

describe('on a service with the default audience', () => {
  let service: ScratchService;
  let own = '';
  beforeAll(async () => {
    service = await openScratchService();
    own = service.config.publicUrl;
  });
  afterAll(() => service.close());

  test('a token has management permissions only if they were requested', async () => {
    const { key } = await service.create(MANAGER);
    const list = (token: string) => service.call('GET', '/v1/keys', { key: token });
    const byDefault = await tokenOf(service, key);
    expect(byDefault.scope).toBe('docs:read');
    expect(await list(byDefault.token)).toMatchObject({ status: 403, body: { code: 'insufficient_permissions' } });
    const byName = await tokenOf(service, key, [['scope', 'docs:read pantheon:keys:read']]);
    expect(byName.scope).toBe('docs:read pantheon:keys:read');
    expect((await list(byName.token)).status).toBe(200);
    const onlyManages = await service.create({ permissions: ['pantheon:*'], grantable: ['*'] });
    expect((await tokenOf(service, onlyManages.key)).scope).toBeUndefined();
    expect((await tokenOf(service, onlyManages.key, [['scope', 'pantheon:*']])).scope).toBe('pantheon:*');
  });

  test('the same holds for tokens that are issued without the key, and for those of the generator', async () => {
    const { key, apiKey } = await service.create(MANAGER);
    const issued = await service.auth.tokens.issue({ tenantId: 'default', keyId: apiKey.id });
    expect(issued.permissions).toEqual(['docs:read']);
    const metadata = { keyId: apiKey.id, algorithm: 'ES256' as const, issuer: own, audience: [own], customClaims: {} };
    const token = service.auth.generator.generateJWTFromKey(apiKey, metadata, key);
    expect(await service.call('GET', '/v1/keys', { key: token })).toMatchObject({ status: 403 });
  });

  test('a token for the audience of this API alone is accepted', async () => {
    const { key } = await service.create({ ...MANAGER, jwt: { audience: [own, ORDERS] } });
    const call = async (...audience: readonly string[]) => {
      const wanted = audience.map((one) => ['audience', one] as const);
      const { token } = await tokenOf(service, key, [['scope', 'pantheon:keys:read'], ...wanted]);
      return Promise.all(['/v1/keys', '/v1/self'].map((url) => service.call('GET', url, { key: token })));
    };
    for (const answer of await call(own)) expect(answer.status).toBe(200);
    for (const answer of [...(await call(ORDERS)), ...(await call(own, ORDERS)), ...(await call(ORDERS, own))])
      expect(answer).toMatchObject(INVALID);
  });

  test('a token that the key signed is accepted too', async () => {
    const { key } = await service.create({ ...MANAGER, jwt: { algorithm: 'HS256', audience: [own, ORDERS] } });
    const call = (...audience: string[]) => {
      const token = mintKeyToken({ key, issuer: own, audience, permissions: ['pantheon:keys:read'] });
      return service.call('GET', '/v1/keys', { key: token });
    };
    expect((await call(own)).status).toBe(200);
    for (const audience of [[ORDERS], [own, ORDERS]]) expect(await call(...audience)).toMatchObject(INVALID);
  });

  test('a token reads its own permitted facts, and nothing else of its key', async () => {
    const secret = { note: 'for the owner' };
    const { key, apiKey } = await service.create({
      ...MANAGER,
      ...{ userId: 'user-9', name: 'named', description: 'described', grantable: ['docs:*'], metadata: secret },
      ...{ rateLimits: [{ name: 'calls', limit: 100, window: '1m' }], quota: { limit: 1_000, period: 'month' } },
      ...{ ipAllowlist: ['127.0.0.0/8'], environment: 'test', rotation: { overlap: '1h' } },
    });
    const { token } = await tokenOf(service, key, [['scope', 'docs:read']]);
    const seen = await service.call('GET', '/v1/self', { key: token });
    expect(tokenSelfSchema.parse(seen.body)).toMatchObject({
      id: apiKey.id,
      environment: 'test',
      permissions: ['docs:read'],
    });
    const lifetime = Date.parse(String(seen.body['expiresAt'])) - Date.now();
    expect(lifetime).toBeLessThanOrEqual(300_000);
    expect(seen.headers).not.toHaveProperty('etag');
    for (const hidden of [
      'user-9',
      'named',
      'described',
      'grantable',
      'owner',
      'pantheon:',
      '127.0.0',
      'quota',
      'overlap',
    ])
      expect(seen.text).not.toContain(hidden);
    expect(apiKeySchema.parse((await service.call('GET', '/v1/self', { key })).body)).toMatchObject({
      metadata: secret,
    });
  });

  test('and expires with its key if that expires sooner', async () => {
    const { key, apiKey } = await service.create(MANAGER);
    const { token } = await tokenOf(service, key);
    const { expiresAt } = await service.auth.keys.update(apiKey.id, { expiresIn: '60s' });
    const seen = await service.call('GET', '/v1/self', { key: token });
    expect(seen.body['expiresAt']).toBe(expiresAt?.toISOString());
  });
});

describe('on a service whose tokens are for another API', () => {
  let service: ScratchService;
  beforeAll(async () => {
    service = await openScratchService({ AUDIENCE: ORDERS });
  });
  afterAll(() => service.close());

  test('a token of the default audience does not manage; the audience of this API must be requested', async () => {
    const { key } = await service.create(MANAGER);
    const scope = ['scope', 'pantheon:keys:read'] as const;
    const forOrders = await tokenOf(service, key, [scope]);
    for (const url of ['/v1/keys', '/v1/self'])
      expect(await service.call('GET', url, { key: forOrders.token })).toMatchObject(INVALID);
    expect(await service.auth.tokens.verify({ token: forOrders.token })).toMatchObject({
      valid: true,
      token: { audience: [ORDERS] },
    });
    const forThis = await tokenOf(service, key, [scope, ['audience', service.config.publicUrl]]);
    expect((await service.call('GET', '/v1/keys', { key: forThis.token })).status).toBe(200);
    expect(await service.auth.tokens.verify({ token: forThis.token })).toMatchObject({ valid: false });
  });

  test('a key can sign for this API too', async () => {
    const { key } = await service.create({ ...MANAGER, jwt: { algorithm: 'HS256' } });
    const issuer = service.config.publicUrl;
    const wish = { key, issuer, permissions: ['pantheon:keys:read'] };
    const call = (audience: string[]) => service.call('GET', '/v1/keys', { key: mintKeyToken({ ...wish, audience }) });
    expect((await call([issuer])).status).toBe(200);
    expect(await call([ORDERS])).toMatchObject(INVALID);
  });
});
