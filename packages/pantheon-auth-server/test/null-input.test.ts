/** On create, and wherever else a body says what to do once, null means left out: many clients write it so. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { allOperations } from '../src/app.ts';
import { bodyMembers, withMember } from './body-members.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

let service: ScratchService;
beforeAll(async () => {
  service = await openScratchService();
});
afterAll(() => service.close());

const CREATE = { userId: 'u', name: 'n', quota: { limit: 5, period: 'day' } } as const;
/** A sound body of each operation that has one, besides changes (`PATCH`) and forms. */
const SOUND: Readonly<Record<string, () => object>> = {
  createKey: () => CREATE,
  verifyKey: () => ({ key: 'x' }),
  createTenant: () => ({ id: `tenant-${Math.trunc(performance.now() * 1_000)}` }),
};

/** Operations whose bodies have no optional member. */
const ALL_NEEDED: ReadonlySet<string> = new Set(['rotateSigningKey']);

test('null is accepted in every body, for every optional member', async () => {
  const { auth, config } = service;
  const operations = allOperations(auth, config).filter(
    ({ method, body, bodyKind }) => method === 'POST' && body !== undefined && bodyKind !== 'form',
  );
  expect(operations.length).toBeGreaterThan(8);
  for (const { id, url, body, access } of operations) {
    const optional = bodyMembers({ ...(body !== undefined && { body }) }).filter(({ isRequired }) => !isRequired);
    if (!ALL_NEEDED.has(id)) expect([id, optional.length]).not.toEqual([id, 0]);
    for (const { path } of optional) {
      const { apiKey, key } = await service.create({ rotation: {} });
      if (id === 'rollBackKey') await auth.rotation.rotate(apiKey.id);
      const tenant = url.startsWith('/v1/tenants/')
        ? (await auth.tenants.create({ id: `t-${apiKey.id.toLowerCase()}` })).id
        : null;
      const kid = auth.tokens.signingKeys()[0]?.kid ?? '';
      const target = url
        .replace(':id', tenant ?? apiKey.id)
        .replace(':version', '1')
        .replace(':kid', kid);
      const sound = SOUND[id]?.() ?? {};
      const by = access.kind === 'self' ? { key } : {};
      const answer = await service.call('POST', target, { ...by, body: withMember(sound, path, null) });
      expect([id, path.join('.'), answer.status, answer.text]).toMatchObject([id, path.join('.'), expectedOf(id), {}]);
    }
  }
});

/** The only version of a key is its current one, which is not retired: that is the next question after the body. */
function expectedOf(id: string): unknown {
  return id === 'retireKeyVersion' ? 409 : expect.toBeOneOf([200, 201]);
}

test('and gives the same key as without the member', async () => {
  const names = ['description', 'environment', 'permissions', 'grantable', 'notBefore', 'expiresAt', 'expiresIn'];
  const more = ['rateLimits', 'quota', 'ipAllowlist', 'rotation', 'jwt', 'metadata'];
  const nulls = Object.fromEntries([...names, ...more].map((name) => [name, null]));
  const made = async (body: object) => {
    const answer = await service.call('POST', '/v1/keys', { body });
    expect(answer.status).toBe(201);
    const { id: _id, hint: _hint, createdAt: _createdAt, ...rest } = answer.body['apiKey'] as Record<string, unknown>;
    return rest;
  };
  expect(await made({ userId: 'u', name: 'n', ...nulls })).toEqual(await made({ userId: 'u', name: 'n' }));
  const jwt = { algorithm: null, audience: null, customClaims: null, ttl: null };
  expect(await made({ ...CREATE, jwt })).toEqual(await made({ ...CREATE, jwt: {} }));
  expect(await made({ ...CREATE, rotation: { every: null, overlap: null } })).toEqual(
    await made({ ...CREATE, rotation: {} }),
  );
  expect(await made({ ...CREATE, expiresAt: null, expiresIn: '1d' })).toHaveProperty('expiresAt');
});

test('but not for a required member, nor inside a list', async () => {
  for (const [field, wrong] of [
    ['userId', { ...CREATE, userId: null }],
    ['name', { ...CREATE, name: null }],
    ['permissions[0]', { ...CREATE, permissions: [null] }],
    ['rateLimits[0]', { ...CREATE, rateLimits: [null] }],
    ['quota.limit', { ...CREATE, quota: { limit: null, period: 'day' } }],
    ['jwt.audience[0]', { ...CREATE, jwt: { audience: [null] } }],
  ] as const)
    expect(await service.call('POST', '/v1/keys', { body: wrong })).toMatchObject({ status: 400, body: { field } });
  // In what is kept as it is, null is a value.
  const { body } = await service.call('POST', '/v1/keys', { body: { ...CREATE, metadata: { team: null } } });
  expect(body).toMatchObject({ apiKey: { metadata: { team: null } } });
});
