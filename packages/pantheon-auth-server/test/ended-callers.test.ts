/** What the service answers a caller whose key is revoked while its request waits. */
import { systemClock } from 'pantheon-auth';
import { expect, test } from 'vitest';
import { createApp } from '../src/app.ts';
import { createLogger } from '../src/http/logging.ts';
import { CALLER_AGE_MAX_MS } from '../src/settings/server-bounds.ts';
import { openScratchService } from './scratch-service.ts';

test('once a settled revocation is answered, the key is shown nothing more, however many of its reads wait', async () => {
  const service = await openScratchService();
  try {
    const spy = await service.create({ permissions: ['pantheon:keys:read'] });
    // A page that takes some time to read.
    const large = { metadata: { a: 'x'.repeat(3_900) } };
    for (let n = 0; n < 100; n += 1) await service.create(large);
    const answered: { readonly atMs: number; readonly status: number }[] = [];
    const flood = Array.from({ length: 480 }, async () => {
      const { status } = await service.call('GET', '/v1/keys?limit=100', { key: spy.key });
      answered.push({ atMs: performance.now(), status });
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    const revoked = await service.call('POST', `/v1/keys/${spy.apiKey.id}/revoke?settle=true`, { body: {} });
    const settledAtMs = performance.now();
    expect(revoked.body['settledAt']).toBeDefined();
    await Promise.all(flood);
    expect(answered.filter(({ atMs, status }) => atMs > settledAtMs && status === 200)).toEqual([]);
    expect(answered.some(({ status }) => status === 200)).toBe(true);
    expect(answered.some(({ status }) => status === 401)).toBe(true);
  } finally {
    await service.close();
  }
});

test('the verification of a key is not told to a caller that was revoked while the key was read', async () => {
  const service = await openScratchService();
  const { auth } = service;
  let aheadMs = 0;
  let meanwhile = async (): Promise<void> => {};
  const app = await createApp({
    auth: {
      ...auth,
      verify: async (request) => {
        const verification = await auth.verify(request);
        await meanwhile();
        return verification;
      },
    },
    config: service.config,
    logger: createLogger('silent'),
    clock: { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + aheadMs },
  });
  try {
    const caller = await service.create({ permissions: ['pantheon:keys:verify'] });
    const { key } = await service.create();
    const verify = async (): Promise<number> => {
      const headers = { authorization: `Bearer ${caller.key}` };
      return (await app.inject({ method: 'POST', url: '/v1/keys/verify', headers, payload: { key } })).statusCode;
    };
    expect(await verify()).toBe(200);
    meanwhile = async () => {
      aheadMs += CALLER_AGE_MAX_MS + 1;
    };
    expect(await verify()).toBe(200);
    meanwhile = async () => {
      await auth.keys.revoke(caller.apiKey.id);
      aheadMs += CALLER_AGE_MAX_MS + 1;
    };
    expect(await verify()).toBe(401);
  } finally {
    await app.close();
    await service.close();
  }
});

test('nor is anything to a key of the system tenant that was revoked while the tenant of its request was read', async () => {
  const service = await openScratchService();
  const { auth } = service;
  let aheadMs = 0;
  const { apiKey, key } = await service.create({ permissions: ['pantheon:signing-keys:read'] }, 'system');
  const assertThere = async (): Promise<void> => {
    await auth.tenant('system').keys.revoke(apiKey.id);
    aheadMs += CALLER_AGE_MAX_MS + 1;
  };
  const app = await createApp({
    auth: { ...auth, tenants: { assertThere } as unknown as typeof auth.tenants },
    config: service.config,
    logger: createLogger('silent'),
    clock: { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + aheadMs },
  });
  try {
    const headers = { authorization: `Bearer ${key}`, 'pantheon-tenant': 'acme' };
    expect((await app.inject({ method: 'GET', url: '/v1/signing-keys', headers })).statusCode).toBe(401);
  } finally {
    await app.close();
    await service.close();
  }
});
