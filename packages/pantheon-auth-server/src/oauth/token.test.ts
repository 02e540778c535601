/** The token endpoint, as OAuth clients use it and as attackers do. */

import type { AddressInfo } from 'node:net';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openScratchService, type ScratchService } from '../../test/scratch-service.ts';
import { oauthErrorSchema } from '../http/problem-schema.ts';
import { tokenSchema } from './schemas.ts';
import { API_KEY_TYPE, TOKEN_EXCHANGE } from './token-request.ts';

let service: ScratchService;
beforeAll(async () => {
  service = await openScratchService();
});
afterAll(() => service.close());

const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const exchangeOf = (key: string, more: Record<string, string> = {}): string =>
  new URLSearchParams({
    grant_type: TOKEN_EXCHANGE,
    subject_token_type: API_KEY_TYPE,
    subject_token: key,
    ...more,
  }).toString();
const post = (form: string, headers: Record<string, string> = {}, address = '203.0.113.50') =>
  service.call('POST', '/oauth2/token', { key: null, form, headers, address });
let senders = 0;
/** Where nobody has failed yet. */
const newAddress = (): string => `198.51.${senders >> 8}.${senders++ & 255}`;
const basic = (id: string, secret: string) => ({
  authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
});

describe('token exchange', () => {
  test('a key becomes a token that jose verifies against the JWKS over HTTP, and not with one bit flipped', async () => {
    await service.app.listen({ port: 0, host: '127.0.0.1' });
    const { port } = service.app.server.address() as AddressInfo;
    const { key, apiKey } = await service.create({ permissions: ['docs:read', 'docs:write'] });
    const response = await fetch(`http://127.0.0.1:${port}/oauth2/token`, {
      method: 'POST',
      body: new URLSearchParams(exchangeOf(key, { scope: 'docs:read' })),
    });
    expect(response.status).toBe(200);
    expect(response.headers.get('cache-control')).toBe('no-store');
    const token = tokenSchema.parse(await response.json());
    expect(token).toMatchObject({
      issued_token_type: ACCESS_TOKEN,
      token_type: 'Bearer',
      expires_in: 300,
      scope: 'docs:read',
    });

    const keys = createRemoteJWKSet(new URL(`http://127.0.0.1:${port}/.well-known/jwks.json`));
    const expected = { issuer: service.config.publicUrl, audience: service.config.publicUrl, typ: 'at+jwt' };
    const { payload } = await jwtVerify(token.access_token, keys, expected);
    expect(payload).toMatchObject({ client_id: apiKey.id, scope: 'docs:read', tenant_id: 'default' });
    const [header = '', claims = '', signature = ''] = token.access_token.split('.');
    const bytes = Buffer.from(claims, 'base64url');
    bytes[10] = (bytes[10] ?? 0) ^ 1;
    await expect(jwtVerify(`${header}.${bytes.toString('base64url')}.${signature}`, keys, expected)).rejects.toThrow();
    const wrong = Buffer.from(signature, 'base64url');
    wrong[0] = (wrong[0] ?? 0) ^ 1;
    await expect(jwtVerify(`${header}.${claims}.${wrong.toString('base64url')}`, keys, expected)).rejects.toThrow();
  });

  test('a malformed, an unknown, a revoked, an expired and a suspended subject token get one answer', async () => {
    const revoked = await service.create();
    await service.auth.keys.revoke(revoked.apiKey.id);
    const suspended = await service.create();
    await service.auth.keys.suspend(suspended.apiKey.id);
    const bound = await service.create({ ipAllowlist: ['198.51.100.1/32'] });
    const { key, apiKey } = await service.create();
    const [one = '', two = ''] = [revoked.key, key];
    const unknown = `${two.slice(0, -49)}${one.slice(-49)}`;
    const answers = await Promise.all(
      [
        exchangeOf('nonsense'),
        exchangeOf(unknown),
        exchangeOf(revoked.key),
        exchangeOf(suspended.key),
        exchangeOf(bound.key),
        exchangeOf(key, { client_id: revoked.apiKey.id }),
      ].map((form) => post(form)),
    );
    for (const { status, text, headers } of answers) {
      expect({ status, text }).toEqual({ status: answers[0]?.status, text: answers[0]?.text });
      expect(Object.keys(headers)).toEqual(Object.keys(answers[0]?.headers ?? {}));
    }
    expect(answers[0]).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
    expect((await post(exchangeOf(key, { client_id: apiKey.id }))).status).toBe(200);
  });

  test.each([
    ['the literal *', { scope: '*' }, 'invalid_scope'],
    ['a scope beyond the key', { scope: 'docs:write' }, 'invalid_scope'],
    ['a malformed scope', { scope: 'docs:read  docs:read' }, 'invalid_scope'],
    ['an audience that is not allowed', { audience: 'https://elsewhere.example' }, 'invalid_target'],
    ['a resource with a fragment', { resource: 'https://a.example/#x' }, 'invalid_target'],
    ['a resource that is no URI', { resource: 'a b' }, 'invalid_target'],
    ['an actor token', { actor_token: 'x' }, 'invalid_request'],
    [
      'another requested type',
      { requested_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' },
      'invalid_request',
    ],
    ['another subject type', { subject_token_type: ACCESS_TOKEN }, 'invalid_request'],
    ['no subject token', { subject_token: '' }, 'invalid_request'],
    ['another grant', { grant_type: 'password' }, 'unsupported_grant_type'],
    ['no grant', { grant_type: '' }, 'invalid_request'],
  ])('%s is refused', async (_name, more, error) => {
    const { key } = await service.create({ permissions: ['docs:read'] });
    const { status, body, headers, text } = await post(exchangeOf(key, more));
    expect({ status, error: body['error'] }).toEqual({ status: 400, error });
    oauthErrorSchema.parse(body);
    expect(headers['cache-control']).toBe('no-store');
    expect(text).not.toContain(key);
  });

  test('while no signing key may sign, the answer says when to retry', async () => {
    const { tokens } = service.auth;
    const [signing] = tokens
      .signingKeys()
      .filter(({ algorithm, state }) => algorithm === 'RS256' && state === 'signing');
    await tokens.retireSigningKey(signing?.kid ?? '', { compromised: true });
    const { key } = await service.create({ jwt: { algorithm: 'RS256' } });
    const { status, body, headers } = await post(exchangeOf(key));
    expect({ status, error: body['error'] }).toEqual({ status: 503, error: 'temporarily_unavailable' });
    expect(headers['retry-after']).toBe('60');
  });

  test('a token never has more permissions than its key, and no more than requested', async () => {
    const { key } = await service.create({
      permissions: ['docs:*'],
      jwt: { audience: ['https://a.example', 'https://b.example'] },
    });
    const form = `${exchangeOf(key, { scope: 'docs:read' })}&audience=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example`;
    const { body } = await post(form);
    const claims = JSON.parse(Buffer.from(String(body['access_token']).split('.')[1] ?? '', 'base64url').toString());
    expect(claims).toMatchObject({ scope: 'docs:read', aud: ['https://a.example', 'https://b.example'] });
  });

  test('an exceeded limit is reported as such', async () => {
    const { key } = await service.create({ rateLimits: [{ name: 'burst', limit: 1, window: '1h' }] });
    await post(exchangeOf(key));
    const limited = await post(exchangeOf(key));
    expect(limited).toMatchObject({ status: 429, body: { error: 'temporarily_unavailable' } });
    expect(Number(limited.headers['retry-after'])).toBeGreaterThan(0);
    expect(limited.headers['ratelimit']).toContain('"burst"');
  });
});

describe('client credentials', () => {
  test('the id and the string of a key are client id and secret, in the header or in the form', async () => {
    const { key, apiKey } = await service.create({ permissions: ['docs:read'] });
    const grant = 'grant_type=client_credentials';
    const inHeader = await post(grant, basic(apiKey.id, key));
    expect(tokenSchema.parse(inHeader.body)).not.toHaveProperty('issued_token_type');
    const inForm = await post(`${grant}&client_id=${apiKey.id}&client_secret=${key}`);
    expect(inForm.status).toBe(200);
    expect(inForm.body).not.toHaveProperty('refresh_token');
  });

  test('every invalid client gets one answer', async () => {
    const { key, apiKey } = await service.create();
    const other = await service.create();
    const grant = 'grant_type=client_credentials';
    const answers = [
      await post(grant),
      await post(grant, basic('', key)),
      await post(grant, basic(other.apiKey.id, key)),
      await post(grant, basic(apiKey.id, other.key)),
      await post(grant, basic(apiKey.id, 'wrong')),
      await post(grant, { authorization: `Bearer ${key}` }),
      await post(grant, { 'x-api-key': key }),
      await post(grant, { authorization: `Basic ${Buffer.from(key).toString('base64')}` }),
      await post(`${grant}&client_id=${other.apiKey.id}`, basic(apiKey.id, key)),
    ];
    for (const { status, headers, text } of answers) {
      expect({ status, text }).toEqual({ status: 401, text: answers[0]?.text });
      expect(headers['www-authenticate']).toBe('Basic realm="pantheon-auth"');
    }
  });

  test('both parts of Basic are form-encoded, as the RFC says, whatever characters are encoded', async () => {
    const { key, apiKey } = await service.create();
    const grant = 'grant_type=client_credentials';
    const every = (text: string) => Buffer.from(text).toString('hex').replace(/../g, '%$&');
    for (const [id, secret] of [
      [apiKey.id, key.replaceAll('_', '%5F')],
      [apiKey.id, key.replaceAll('_', '%5f')],
      [every(apiKey.id), every(key)],
      [every(apiKey.id).toUpperCase(), key],
    ] as const) {
      expect((await post(grant, basic(id, secret))).status).toBe(200);
      expect((await post(exchangeOf(key), basic(id, secret))).status).toBe(200);
    }
    for (const wrong of ['%', '%5', '%zz', '%ff', '%C0%AF', '%u005F', '%255F', '+', ' ', '%00'])
      for (const [id, secret] of [
        [apiKey.id, `${key}${wrong}`],
        [apiKey.id, key.replace('_', wrong)],
        [`${wrong}${apiKey.id}`, key],
      ] as const)
        expect(await post(grant, basic(id, secret), newAddress())).toMatchObject({
          status: 401,
          body: { error: 'invalid_client' },
        });
  });

  test('an invalid subject token of a valid client is reported, and that of an invalid client is not', async () => {
    const client = await service.create();
    const other = await service.create();
    const revoked = await service.create();
    await service.auth.keys.revoke(revoked.apiKey.id);
    for (const subject of ['nonsense', other.key, revoked.key, client.key.slice(0, -1)])
      for (const good of [
        await post(exchangeOf(subject), basic(client.apiKey.id, client.key)),
        await post(exchangeOf(subject, { client_id: client.apiKey.id, client_secret: client.key })),
      ])
        expect(good).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
    for (const subject of ['nonsense', other.key, revoked.key, client.key])
      for (const bad of [
        await post(exchangeOf(subject), basic(revoked.apiKey.id, revoked.key), newAddress()),
        await post(exchangeOf(subject), basic(client.apiKey.id, other.key), newAddress()),
        await post(exchangeOf(subject), basic(client.apiKey.id, `${client.key}x`), newAddress()),
      ])
        expect(bad).toMatchObject({ status: 401, body: { error: 'invalid_client' } });
    const limited = await service.create({ rateLimits: [{ name: 'burst', limit: 1, window: '1h' }] });
    const again = () => post(exchangeOf(other.key), basic(limited.apiKey.id, limited.key));
    expect([(await again()).status, (await again()).status]).toEqual([400, 429]);
  });

  test('the metadata list every authentication method, and each of them works', async () => {
    const { key, apiKey } = await service.create();
    const { body } = await service.call('GET', '/.well-known/oauth-authorization-server', { key: null });
    const ways: Readonly<Record<string, () => ReturnType<typeof post>>> = {
      client_secret_basic: () => post(exchangeOf(key), basic(apiKey.id, key)),
      client_secret_post: () => post(exchangeOf(key, { client_id: apiKey.id, client_secret: key })),
      none: () => post(exchangeOf(key, { client_id: apiKey.id })),
    };
    expect(Object.keys(ways).toSorted()).toEqual(
      (body['token_endpoint_auth_methods_supported'] as string[]).toSorted(),
    );
    for (const [way, ask] of Object.entries(ways)) expect([way, (await ask()).status]).toEqual([way, 200]);
  });

  test('two authentication methods at once are refused, and so is a repeated parameter', async () => {
    const { key, apiKey } = await service.create();
    const twice = `grant_type=client_credentials&client_id=${apiKey.id}&client_secret=${key}`;
    for (const answer of [
      await post(twice, basic(apiKey.id, key)),
      await post(`${twice}&client_secret=${key}`),
      await post('grant_type=client_credentials', { ...basic(apiKey.id, key), 'x-api-key': key }),
    ])
      expect(answer).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
  });
});

test('the endpoint accepts forms only, of a bounded size, and no query', async () => {
  const { key } = await service.create();
  const json = await service.call('POST', '/oauth2/token', {
    key: null,
    body: {},
    headers: { 'content-type': 'text/plain' },
  });
  expect(json).toMatchObject({ status: 415, body: { error: 'invalid_request' } });
  for (const type of ['application/json', 'application/json; charset=utf-8', 'multipart/form-data; boundary=x'])
    expect(
      await service.call('POST', '/oauth2/token', {
        key: null,
        body: { grant_type: 'client_credentials', client_secret: key },
        headers: { 'content-type': type },
      }),
    ).toMatchObject({
      status: 415,
      body: {
        error: 'invalid_request',
        error_description: 'Send the parameters as a form: application/x-www-form-urlencoded, and not as JSON.',
      },
    });
  expect(await post(`grant_type=x&y=${'a'.repeat(70_000)}`)).toMatchObject({
    status: 413,
    body: { error: 'invalid_request' },
  });
  expect(await post(Array.from({ length: 40 }, (_, at) => `p${at}=1`).join('&'))).toMatchObject({ status: 400 });
  const inUrl = await service.call('POST', `/oauth2/token?subject_token=${key}`, { key: null, form: exchangeOf(key) });
  expect(inUrl).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
  const inQuery = await service.call('POST', '/oauth2/token?a=1', { key: null, form: exchangeOf(key) });
  expect(inQuery).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
});

test('an empty request is an OAuth error like any other', async () => {
  expect(await service.call('POST', '/oauth2/token', { key: null })).toMatchObject({
    status: 400,
    body: { error: 'invalid_request' },
  });
});
