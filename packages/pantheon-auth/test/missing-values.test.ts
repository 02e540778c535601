/**
 * What a program in JavaScript leaves empty or misspells is never read as a yes: a caller that was not found is not the
 * process, a filter without a value does not show everything, and a question that cannot be read is not asked.
 */
import { describe, expect, test } from 'vitest';
import { KEY_REQUEST, TOKEN_REQUEST } from '../src/api-keys/verify-request.ts';
import { withAuth } from '../src/middleware/fetch.ts';
import { authRequest, callerFor, callerWith } from './callers.ts';
import { refusalOf } from './refusal-of.ts';
import { ISSUER, openTestEngine, type TestEngine } from './test-engine.ts';

/** As plain JavaScript would pass it. */
const untyped = (value: unknown): never => value as never;
const label = (value: unknown): string => JSON.stringify(value, (_, one) => (one === undefined ? 'undefined' : one));

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

/** Every call that has a `by` among its options. */
async function callsOf({ auth }: TestEngine) {
  const { id } = (await auth.keys.create(INPUT)).apiKey;
  const { id: rotated } = (await auth.keys.create(INPUT)).apiKey;
  await auth.rotation.rotate(rotated);
  const target = { tenantId: 'default', keyId: id };
  const signingKey = await auth.tokens.rotateSigningKey('Ed25519');
  const range = { from: 0, to: 3_600_000, granularity: 'hour' } as const;
  const calls: Readonly<Record<string, (options: never) => unknown>> = {
    'keys.create': (options) => auth.keys.create(INPUT, options),
    'keys.get': (options) => auth.keys.get(id, options),
    'keys.list': (options) => auth.keys.list({}, options),
    'keys.versions': (options) => auth.keys.versions(id, options),
    'keys.usage': (options) => auth.keys.usage(id, range, options),
    'keys.update': (options) => auth.keys.update(id, { name: 'm' }, options),
    'keys.suspend': (options) => auth.keys.suspend(id, options),
    'keys.resume': (options) => auth.keys.resume(id, options),
    'keys.revoke': (options) => auth.keys.revoke(id, options),
    'rotation.rotate': (options) => auth.rotation.rotate(id, {}, options),
    'rotation.retire': (options) => auth.rotation.retire(rotated, 1, options),
    'tokens.issue': (options) => auth.tokens.issue(target, {}, options),
    'tokens.revoke': (options) => auth.tokens.revoke({ ...target, tokenId: 't', expiresAt: 0 }, options),
    'tokens.revokeAllOf': (options) => auth.tokens.revokeAllOf(target, options),
    'tokens.rotateSigningKey': (options) => auth.tokens.rotateSigningKey('Ed25519', options),
    'tokens.signingKeys': (options) => auth.tokens.signingKeys(options),
    'tokens.retireSigningKey': (options) => auth.tokens.retireSigningKey(signingKey.kid, options),
    'tenants.create': (options) => auth.tenants.create({ id: 'acme' }, options),
    'tenants.get': (options) => auth.tenants.get('default', options),
    'tenants.list': (options) => auth.tenants.list({}, options),
    'tenants.update': (options) => auth.tenants.update('default', { name: 'm' }, options),
    'tenants.suspend': (options) => auth.tenants.suspend('default', options),
    'tenants.resume': (options) => auth.tenants.resume('default', options),
    'tenants.delete': (options) => auth.tenants.delete('default', options),
    'idTags.list': (options) => auth.idTags.list(options),
    'idTags.add': (options) => auth.idTags.add(options),
    'idTags.retire': (options) => auth.idTags.retire(1, options),
    'events.list': (options) => auth.events.list('default', {}, options),
  };
  return Object.entries(calls);
}

test('a value of `by` that is not a caller is never taken for the process itself, in any call', async () => {
  await using engine = await openTestEngine();
  const calls = await callsOf(engine);
  const before = await engine.sql('select seq from log_head');
  const { authority, auditContext } = callerWith({});
  const noCallers = [
    ...[undefined, null, '', 'root', 0, true, {}, [], { authority }, { auditContext }, { authority: {}, auditContext }],
    ...[
      { authority: { ...authority, kind: 'root' }, auditContext },
      { authority: { kind: 'key' }, auditContext },
    ],
    { authority: { ...authority, permissions: 'pantheon:*' }, auditContext },
  ];
  for (const [name, call] of calls) {
    for (const by of noCallers)
      expect(await refusalOf(async () => call(untyped({ by }))), `${name} ${label(by)}`).toMatchObject({
        code: 'invalid_request',
        field: 'by',
      });
  }
  expect(await engine.sql('select seq from log_head')).toEqual(before);
});

test('a misspelt option is not ignored, in any call', async () => {
  await using engine = await openTestEngine();
  const calls = await callsOf(engine);
  const before = await engine.sql('select seq from log_head');
  const by = callerWith({ permissions: [] });
  for (const [name, call] of calls) {
    for (const [options, field] of [
      [{ By: by }, 'By'],
      [{ caller: by }, 'caller'],
      [{ ifmatch: '"k1"' }, 'ifmatch'],
      [{ ifMatch: undefined }, 'ifMatch'],
      [{ ifMatch: 1 }, 'If-Match'],
      [{ idempotencyKey: undefined }, 'idempotencyKey'],
      [{ idempotencyKey: 7 }, 'Idempotency-Key'],
      [null, 'options'],
    ])
      expect(await refusalOf(async () => call(untyped(options))), `${name} ${label(options)}`).toMatchObject({
        code: 'invalid_request',
        field,
      });
  }
  expect(await engine.sql('select seq from log_head')).toEqual(before);
});

test('getSelf, revokeSelf and rotateSelf need a caller', async () => {
  await using engine = await openTestEngine();
  const { keys, rotation } = engine.auth;
  for (const by of [undefined, null, {}]) {
    for (const call of [keys.getSelf, keys.revokeSelf].map((one) => one.bind(keys)))
      expect(await refusalOf(call(untyped(by)))).toMatchObject({ code: 'invalid_request', field: 'by' });
    expect(await refusalOf(rotation.rotateSelf(untyped(by)))).toMatchObject({ code: 'invalid_request', field: 'by' });
  }
});

test('a caller is confirmed without a permission only if null is passed for it', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const by = await callerFor(auth, (await auth.keys.create(INPUT)).key);
  await auth.confirm(by, null);
  for (const demand of [
    undefined,
    {},
    { action: undefined, tenantId: 'default' },
    { action: 'keys.raed' },
    'keys.read',
  ])
    expect(await refusalOf(auth.confirm(by, untyped(demand)))).toMatchObject({
      code: 'invalid_request',
      field: 'action',
    });
  const demand = untyped({ action: 'keys.read' });
  expect(await refusalOf(auth.confirm(by, demand))).toMatchObject({ code: 'invalid_request', field: 'tenantId' });
  expect(await refusalOf(auth.confirm(untyped(undefined), null))).toMatchObject({ code: 'invalid_request' });
});

describe('a list', () => {
  test('of events or keys is limited to one tenant, whatever is passed for it', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    for (const tenantId of [undefined, null, 0, [], ['default'], {}, Symbol('default')]) {
      const isNone = { code: 'invalid_request', field: 'tenantId' };
      expect(await refusalOf(auth.events.list(untyped(tenantId)))).toMatchObject(isNone);
      expect(await refusalOf(async () => auth.tenant(untyped(tenantId)).keys.list())).toMatchObject(isNone);
    }
  });

  test('applies every filter that is given, and refuses empty and unknown ones', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const wrong: readonly [call: (filter: never) => Promise<unknown>, filters: readonly Record<string, unknown>[]][] = [
      [
        (filter) => auth.keys.list(filter),
        [{ userId: undefined }, { userId: 7 }, { userid: 'u' }, { q: undefined }, { state: undefined }, { cursor: 7 }],
      ],
      [
        (filter) => auth.events.list('default', filter),
        [{ type: undefined }, { subjectId: undefined }, { subjectid: 'k' }, { order: undefined }, { cursor: 7 }],
      ],
      [(filter) => auth.tenants.list(filter), [{ state: 'active' }, { cursor: 7 }]],
    ];
    for (const [call, filters] of wrong) {
      for (const filter of filters)
        expect(await refusalOf(call(untyped(filter))), label(filter)).toMatchObject({
          code: 'invalid_request',
          field: Object.keys(filter)[0],
        });
      // The first page, and the usual length of one: nothing is wider for it.
      await call(untyped({ cursor: undefined, limit: undefined }));
    }
  });
});

describe('a verification', () => {
  const NARROWING = ['permissions', 'tenant', 'environment', 'audience', 'audienceOnly', 'accept'];

  test('refuses unknown options, and undefined for one that restricts', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key } = await auth.keys.create(INPUT);
    const exchange = await auth.tokens.exchange({ key });
    if (!exchange.issued) throw new Error('not issued');
    const { token } = exchange.token;
    const undefinedOnes = NARROWING.map((name) => ({ [name]: undefined }));
    for (const more of [{ permission: ['docs:write'] }, { Permissions: ['docs:write'] }, ...undefinedOnes]) {
      const [name = ''] = Object.keys(more);
      const refused = { code: 'invalid_request', field: name };
      expect(await refusalOf(auth.verify({ key, ...(more as object) })), label(more)).toMatchObject(refused);
      expect(await refusalOf(auth.tokens.verify({ token, ...(more as object) })), label(more)).toMatchObject(refused);
      expect(await refusalOf(auth.tokens.exchange({ key, ...(more as object) })), label(more)).toMatchObject(refused);
      const guarded = await auth.authenticate(authRequest(key), untyped(more));
      expect(guarded, label(more)).toMatchObject({ authenticated: false, refusal: { status: 500 } });
    }
    // What says nothing against the use may be left undefined.
    const nothing = untyped({ ip: undefined, cost: undefined, askedBy: undefined });
    expect(await auth.verify({ key, ...(nothing as object) })).toMatchObject({ valid: true });
    expect(Object.keys(KEY_REQUEST).length + 2).toBe(Object.keys(TOKEN_REQUEST).length);
  });

  test('of a token takes audiences as a list; options for issuing tokens have types of their own', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create({ ...INPUT, permissions: ['docs:*'] });
    const exchange = await auth.tokens.exchange({ key });
    if (!exchange.issued) throw new Error('not issued');
    const { token } = exchange.token;
    for (const audience of [null, ISSUER, 7, {}, new Set([ISSUER])])
      expect(await refusalOf(auth.tokens.verify({ token, audience: untyped(audience) }))).toMatchObject({
        code: 'invalid_request',
        field: 'audience',
      });
    for (const audienceOnly of [null, 'false', 0])
      expect(await refusalOf(auth.tokens.verify({ token, audienceOnly: untyped(audienceOnly) }))).toMatchObject({
        code: 'invalid_request',
        field: 'audienceOnly',
      });
    const target = { tenantId: 'default', keyId: apiKey.id };
    for (const [field, value] of [
      ...[undefined, null, '', 'docs:read', {}].map((one) => ['permissions', one] as const),
      ...[undefined, null, '', ISSUER, {}].map((one) => ['audience', one] as const),
      ...[null, '60', {}].map((one) => ['ttl', one] as const),
      ['scope', 'docs:read'],
    ] as const) {
      const options = untyped({ [field === 'ttl' ? 'ttlSeconds' : field]: value });
      const refused = { code: 'invalid_request', field };
      expect(await refusalOf(auth.tokens.exchange({ key, ...(options as object) })), label(options)).toMatchObject(
        refused,
      );
      expect(await refusalOf(auth.tokens.issue(target, options)), label(options)).toMatchObject(refused);
    }
    for (const wrong of [undefined, null, {}, { tenantId: 'default' }, { keyId: apiKey.id }])
      expect(await refusalOf(auth.tokens.issue(untyped(wrong)))).toMatchObject({ code: 'invalid_request' });
    for (const tokenId of [undefined, null, 7, ['t']])
      expect(await refusalOf(auth.tokens.revoke({ ...target, tokenId: untyped(tokenId), expiresAt: 0 }))).toMatchObject(
        {
          code: 'invalid_request',
          field: 'tokenId',
        },
      );
    for (const algorithm of ['x', 'HS256', 'none', undefined, null, 7, '__proto__'])
      expect(await refusalOf(auth.tokens.rotateSigningKey(untyped(algorithm)))).toMatchObject({
        code: 'invalid_request',
        field: 'algorithm',
      });
  });

  test('a value that is not a string is the id of no key', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create(INPUT);
    for (const id of [undefined, null, 7, {}, [apiKey.id], Buffer.from(apiKey.id)])
      for (const call of [() => auth.keys.get(untyped(id)), () => auth.keys.revoke(untyped(id))])
        expect(await refusalOf(call), label(id)).toMatchObject({ code: 'not_found' });
    expect(await auth.keys.get(apiKey.id)).toMatchObject({ state: 'active' });
  });
});

test('a guard is not created from options without a value: it would allow more than was meant', async () => {
  const make = (options: object): unknown => withAuth(untyped({}), untyped(options), untyped(null));
  for (const options of [
    ...['permissions', 'tenant', 'environment', 'accept', 'audience', 'audienceOnly'].map((name) => ({
      [name]: undefined,
    })),
    { permissions: [] },
    { address: '10.0.0.1' },
    { onRefused: true },
    { requestId: 'r' },
  ])
    expect(await refusalOf(() => make(options)), label(options)).toMatchObject({
      code: 'invalid_setting',
      field: Object.keys(options)[0],
    });
  make({ address: undefined, trustedProxies: undefined, requestId: undefined, onRefused: undefined, cost: undefined });
});
