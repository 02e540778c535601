import { expect, test } from 'vitest';
import { PantheonError } from '../../src/foundation/errors.ts';
import { errorProblem } from '../../src/foundation/problem.ts';
import { callerWith } from '../callers.ts';
import { openTestEngine } from '../test-engine.ts';

/** What a caller would see of it, to the byte. */
async function seen(work: () => Promise<unknown>): Promise<string> {
  try {
    return JSON.stringify(await work());
  } catch (error) {
    if (!(error instanceof PantheonError)) throw error;
    return JSON.stringify([errorProblem(error, 'r'), error.message, error.detail, error.field]);
  }
}

test('I10: in every call, a key of another tenant gets the answer of a key that does not exist', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  await auth.tenants.create({ id: 'acme' });
  const acme = auth.tenant('acme');
  const { key, apiKey } = await acme.keys.create({
    userId: 'u',
    name: 'n',
    permissions: ['docs:read'],
    rotation: { overlap: '1h' },
  });
  await acme.rotation.rotate(apiKey.id);
  const before = await acme.keys.get(apiKey.id);
  const administrator = callerWith({});
  const range = { from: 0, to: 1, granularity: 'day' } as const;
  const calls: Readonly<Record<string, (id: string) => Promise<unknown>>> = {
    get: (id) => auth.keys.get(id, { by: administrator }),
    versions: (id) => auth.keys.versions(id, { by: administrator }),
    usage: (id) => auth.keys.usage(id, range, { by: administrator }),
    update: (id) => auth.keys.update(id, { name: 'x' }, { by: administrator }),
    'update, wrongly': (id) => auth.keys.update(id, { name: '' }, { by: administrator }),
    suspend: (id) => auth.keys.suspend(id, { by: administrator }),
    resume: (id) => auth.keys.resume(id, { by: administrator }),
    revoke: (id) => auth.keys.revoke(id, { by: administrator }),
    'revoke with children': (id) => auth.keys.revoke(id, { by: administrator, cascade: true, force: true }),
    rotate: (id) => auth.rotation.rotate(id, {}, { by: administrator }),
    'rotate a version': (id) => auth.rotation.rotate(id, { expectedVersion: 1 }, { by: administrator }),
    'rotate once': (id) => auth.rotation.rotate(id, {}, { by: administrator, idempotencyKey: `rotate-${id}` }),
    retire: (id) => auth.rotation.retire(id, 1, { by: administrator }),
    'retire no version': (id) => auth.rotation.retire(id, 99, { by: administrator }),
    issue: (keyId) => auth.tokens.issue({ tenantId: 'default', keyId }, {}, { by: administrator }),
    'revoke tokens': (keyId) => auth.tokens.revokeAllOf({ tenantId: 'default', keyId }, { by: administrator }),
    'revoke a token': (keyId) =>
      auth.tokens.revoke(
        { tenantId: 'default', keyId, tokenId: 't', expiresAt: engine.clock.now() + 1 },
        { by: administrator },
      ),
    'its events': (subjectId) => auth.events.list('default', { subjectId }, { by: administrator }),
    'among the listed': (q) => auth.keys.list({ q }, { by: administrator }),
    'the self of a key from elsewhere': (keyId) => auth.keys.getSelf(callerWith({ keyId })),
    'its own end': (keyId) => auth.keys.revokeSelf(callerWith({ keyId })),
    'its own rotation': (keyId) => auth.rotation.rotateSelf(callerWith({ keyId })),
  };
  for (const [name, call] of Object.entries(calls))
    expect(await seen(() => call(apiKey.id)), name).toBe(await seen(() => call('NeverMadeNeverMa')));
  expect(await acme.keys.get(apiKey.id)).toEqual(before);
  expect(await auth.verify({ key, tenant: 'acme' })).toMatchObject({ valid: true });
});

test('I10: a tenant that the caller may not manage gets the answer of a tenant that does not exist', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  await auth.tenants.create({ id: 'acme' });
  const { apiKey } = await auth.tenant('acme').keys.create({ userId: 'u', name: 'n' });
  const by = callerWith({});
  const keyId = apiKey.id;
  const calls: Readonly<Record<string, (tenantId: string) => Promise<unknown>>> = {
    create: (id) => auth.tenant(id).keys.create({ userId: 'u', name: 'n' }, { by }),
    list: (id) => auth.tenant(id).keys.list({}, { by }),
    get: (id) => auth.tenant(id).keys.get(keyId, { by }),
    revoke: (id) => auth.tenant(id).keys.revoke(keyId, { by }),
    rotate: (id) => auth.tenant(id).rotation.rotate(keyId, {}, { by }),
    events: (id) => auth.events.list(id, {}, { by }),
    issue: (tenantId) => auth.tokens.issue({ tenantId, keyId }, {}, { by }),
    'revoke tokens': (tenantId) => auth.tokens.revokeAllOf({ tenantId, keyId }, { by }),
    'the tenant': (id) => auth.tenants.get(id, { by }),
    'its suspension': (id) => auth.tenants.suspend(id, { by }),
    'its end': (id) => auth.tenants.delete(id, { by }),
  };
  for (const [name, call] of Object.entries(calls))
    expect(await seen(() => call('acme')), name).toBe(await seen(() => call('never-made')));
});

test('I10: verifying a key or token of another tenant gives the answer of an unknown one', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  await auth.tenants.create({ id: 'acme' });
  const { key } = await auth.tenant('acme').keys.create({ userId: 'u', name: 'n' });
  const exchange = await auth.tokens.exchange({ key, tenant: 'acme' });
  const token = exchange.issued ? exchange.token.token : '';
  const ask = (credential: string) =>
    auth.authenticate({
      url: '/',
      header: (name) => (name === 'authorization' ? [`Bearer ${credential}`] : []),
      address: null,
      requestId: 'r',
    });
  const unknown = JSON.stringify(await ask(auth.generator.generateKey().key));
  for (const credential of [key, token]) expect(JSON.stringify(await ask(credential))).toBe(unknown);
});
