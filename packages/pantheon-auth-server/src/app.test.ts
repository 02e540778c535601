/** What holds for the service as a whole: headers, log, documents, addresses, other processes. */
import type { AddressInfo } from 'node:net';
import { createPantheonAuth } from 'pantheon-auth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openScratchService, type ScratchService } from '../test/scratch-service.ts';
import { allOperations } from './app.ts';
import { codesOf } from './http/operation.ts';
import { API_KEY_TYPE, TOKEN_EXCHANGE } from './oauth/token-request.ts';

let service: ScratchService;
beforeAll(async () => {
  service = await openScratchService();
});
afterAll(() => service.close());

describe('headers', () => {
  test.each([
    '/',
    '/healthz',
    '/nowhere',
    '/v1/keys',
    '/.well-known/jwks.json',
    '/docs',
    '/openapi.json',
    '/v1/keys?key=pan_live_0123456789abcdef',
    '/%zz',
  ])('a browser that opens %s can run nothing from it', async (url) => {
    const { headers } = await service.call('GET', url, { key: null });
    expect(headers['x-content-type-options']).toBe('nosniff');
    expect(headers['referrer-policy']).toBe('no-referrer');
    expect(headers['content-security-policy']).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
    expect(headers['content-security-policy']).not.toContain('unsafe-eval');
    expect(headers).not.toHaveProperty('server');
    expect(headers).not.toHaveProperty('x-powered-by');
    expect(headers).not.toHaveProperty('strict-transport-security');
  });

  test('answers that depend on a credential are not stored by caches', async () => {
    const { headers } = await service.call('GET', '/v1/keys');
    expect(headers).toMatchObject({ 'cache-control': 'no-store', vary: 'Authorization, X-API-Key' });
    expect(headers).not.toHaveProperty('access-control-allow-origin');
  });

  test('over https browsers are told to use https only', async () => {
    const https = await openScratchService({ PUBLIC_URL: 'https://auth.example.com' });
    expect((await https.call('GET', '/')).headers['strict-transport-security']).toMatch(/^max-age=\d{8}/);
    await https.close();
  });
});

describe('discovery', () => {
  test('the JWKS is public, may be cached, and is requested again with its ETag', async () => {
    const first = await service.call('GET', '/.well-known/jwks.json', { key: null });
    expect(first.headers).toMatchObject({
      'content-type': 'application/jwk-set+json',
      'cache-control': 'public, max-age=300',
      'access-control-allow-origin': '*',
    });
    const { keys } = first.body as { keys: Record<string, unknown>[] };
    for (const key of keys) {
      expect(key).toMatchObject({
        kty: expect.stringMatching(/^(EC|RSA|OKP)$/),
        use: 'sig',
        kid: expect.any(String),
        alg: expect.any(String),
      });
      for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']) expect(key).not.toHaveProperty(secret);
    }
    const etag = first.headers['etag'] ?? '';
    const again = await service.call('GET', '/.well-known/jwks.json', {
      key: null,
      headers: { 'if-none-match': `"x", W/${etag}` },
    });
    expect(again).toMatchObject({ status: 304, text: '' });
    expect((await service.call('HEAD', '/.well-known/jwks.json', { key: null })).status).toBe(200);
    expect((await service.call('POST', '/.well-known/jwks.json', { key: null })).headers['allow']).toBe(
      'GET, HEAD, OPTIONS',
    );
  });

  test('the metadata depend on the settings alone', async () => {
    const { body } = await service.call('GET', '/.well-known/oauth-authorization-server', {
      key: null,
      headers: { host: 'evil.example', 'x-forwarded-host': 'evil.example' },
    });
    const { publicUrl } = service.config;
    expect(body).toMatchObject({
      issuer: publicUrl,
      token_endpoint: `${publicUrl}/oauth2/token`,
      jwks_uri: `${publicUrl}/.well-known/jwks.json`,
      grant_types_supported: ['client_credentials', TOKEN_EXCHANGE],
      response_types_supported: [],
    });
    expect(body).not.toHaveProperty('introspection_endpoint');
  });

  test('health never reads the store, readiness does', async () => {
    const scratch = await openScratchService();
    await scratch.auth.close();
    expect((await scratch.call('GET', '/healthz', { key: null })).body).toEqual({ status: 'ok' });
    expect(await scratch.call('GET', '/readyz', { key: null })).toMatchObject({ status: 503 });
    await scratch.app.close();
    expect((await service.call('GET', '/readyz', { key: null })).body).toEqual({ status: 'ready' });
  });
});

describe('the OpenAPI file', () => {
  interface Documented {
    readonly operationId: string;
    readonly security: readonly Record<string, unknown>[];
    readonly responses: Readonly<Record<string, { readonly description: string }>>;
  }

  test('contains exactly the routes of the table, each with its codes and its security', async () => {
    const { body } = await service.call('GET', '/openapi.json', { key: null });
    const paths = body['paths'] as Record<string, Record<string, Documented>>;
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const operations = allOperations(service.auth, service.config);
    const table = operations.map(({ method, url }) => `${method} ${url.replace(/:([a-z]+)/g, '{$1}')}`);
    expect(documented.sort()).toEqual(table.sort());
    expect(new Set(operations.map(({ id }) => id)).size).toBe(operations.length);
    for (const operation of operations) {
      const { operationId, security, responses } =
        paths[operation.url.replace(/:([a-z]+)/g, '{$1}')]?.[operation.method.toLowerCase()] ?? NONE;
      expect(operationId).toBe(operation.id);
      expect(security.length === 0, operation.id).toBe(operation.access.kind === 'public');
      expect(responses).toHaveProperty(String(operation.answer.status));
      const told = Object.values(responses)
        .map(({ description }) => description)
        .join(' ');
      if (operation.errors !== 'oauth')
        for (const code of codesOf(operation)) expect(told, operation.id).toContain(code);
    }
  });
  const NONE: Documented = { operationId: '', security: [], responses: {} };

  test('documents only routes for keys that refuse a request without one', async () => {
    for (const { method, url, access } of allOperations(service.auth, service.config)) {
      if (access.kind === 'public' || access.kind === 'client') continue;
      const { status, headers, body } = await service.call(method, url.replace(':id', 'x').replace(':version', '1'), {
        key: null,
      });
      expect({ status, code: body['code'] }, url).toEqual({ status: 401, code: 'missing_credential' });
      expect(headers['www-authenticate']).toBe('Bearer realm="pantheon-auth"');
    }
  });

  test('has a page that loads nothing from elsewhere, and both can be turned off', async () => {
    const page = await service.call('GET', '/docs', { key: null });
    expect(page.text).not.toMatch(/https?:/);
    const nonce = /nonce-([^']+)'/.exec(page.headers['content-security-policy'] ?? '')?.[1] ?? '';
    expect(page.text.split(`nonce="${nonce}"`).length).toBe(4);
    const script = await service.call('GET', '/docs/scalar.js', { key: null });
    expect(script.headers['content-type']).toBe('text/javascript; charset=utf-8');
    expect(script.text.length).toBeGreaterThan(1_000_000);
    const without = await openScratchService({ DOCS: 'off' });
    for (const url of ['/docs', '/docs/scalar.js', '/openapi.json'])
      expect((await without.call('GET', url)).status).toBe(404);
    await without.close();
  });
});

describe('client addresses', () => {
  const boundTo = (scratch: ScratchService) => scratch.create({ ipAllowlist: ['203.0.113.7/32'] });

  test('are not taken from a header of an untrusted peer', async () => {
    const { key } = await boundTo(service);
    const headers = { 'x-forwarded-for': '203.0.113.7', forwarded: 'for=203.0.113.7', 'x-real-ip': '203.0.113.7' };
    expect((await service.call('GET', '/v1/self', { key, headers, address: '198.51.100.1' })).body['code']).toBe(
      'ip_not_allowed',
    );
    expect((await service.call('GET', '/v1/self', { key, address: '::ffff:203.0.113.7' })).status).toBe(200);
  });

  test('are taken from a trusted proxy, and only the nearest untrusted one', async () => {
    const behind = await openScratchService({ TRUSTED_PROXIES: '10.0.0.0/8' });
    const { key } = await boundTo(behind);
    const from = async (forwarded: string, address = '::ffff:10.0.0.1') =>
      (await behind.call('GET', '/v1/self', { key, headers: { 'x-forwarded-for': forwarded }, address })).status;
    expect(await from('203.0.113.7')).toBe(200);
    expect(await from('1.1.1.1, 203.0.113.7, 10.0.0.2')).toBe(200);
    expect(await from('203.0.113.7, 1.1.1.1')).toBe(403);
    expect(await from('nonsense')).toBe(403);
    expect(await from('203.0.113.7', '198.51.100.1')).toBe(403);
    await behind.close();
  });
});

test('a key that another process revokes is refused by the next answer, and so are its tokens', async () => {
  const { key, apiKey } = await service.create({ permissions: ['docs:read'] });
  const form = new URLSearchParams({
    grant_type: TOKEN_EXCHANGE,
    subject_token_type: API_KEY_TYPE,
    subject_token: key,
  });
  const token = String(
    (await service.call('POST', '/oauth2/token', { key: null, form: form.toString() })).body['access_token'],
  );
  for (const credential of [key, token])
    expect((await service.call('GET', '/v1/self', { key: credential })).status).toBe(200);
  const other = await createPantheonAuth({ dataDir: service.config.dataDir, issuer: service.config.publicUrl });
  await other.keys.revoke(apiKey.id);
  for (const credential of [key, token])
    expect(await service.call('GET', '/v1/self', { key: credential })).toMatchObject({
      status: 401,
      body: { code: 'revoked' },
    });
  await other.close();
});

test('the log after many requests contains no secret, and says what happened', async () => {
  const scratch = await openScratchService();
  await scratch.app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = scratch.app.server.address() as AddressInfo;
  const secrets: string[] = [scratch.rootKey];
  const created = await scratch.call('POST', '/v1/keys', {
    body: { userId: 'u', name: 'n', metadata: { token: 'sealed-away' } },
  });
  const key = String(created.body['key']);
  const id = (created.body['apiKey'] as { id: string }).id;
  const rotated = await scratch.call('POST', `/v1/keys/${id}/rotate`);
  secrets.push(key, String(rotated.body['key']));
  const form = new URLSearchParams({
    grant_type: TOKEN_EXCHANGE,
    subject_token_type: API_KEY_TYPE,
    subject_token: key,
  }).toString();
  const token = String((await scratch.call('POST', '/oauth2/token', { key: null, form })).body['access_token']);
  secrets.push(token);
  await scratch.call('POST', '/v1/keys/verify', { body: { key } });
  await scratch.call('POST', '/v1/keys/verify', { body: `{"key":"${key}"` });
  await scratch.call('POST', '/v1/keys/verify', { body: { [key]: key } });
  await scratch.call('POST', '/oauth2/token', { body: { subject_token: key } });
  await scratch.call('GET', `/v1/keys?q=${key}`);
  await scratch.call('PUT', `/nowhere/${token}`, {
    headers: { 'user-agent': key, referer: `https://x/?k=${key}`, cookie: key },
  });
  await scratch.call('POST', '/v1/keys', { headers: { 'idempotency-key': key, 'pantheon-tenant': key }, body: {} });
  await fetch(`http://127.0.0.1:${port}/v1/keys/${id}`, { headers: { 'X-API-Key': key } });
  await scratch.auth.close();
  const failed = await scratch.call('POST', '/v1/keys', { body: { userId: key, name: key } });
  expect(failed.status).toBeGreaterThanOrEqual(500);
  expect(failed.text).not.toContain(key);
  const log = scratch.log.join('');
  for (const secret of secrets) {
    expect(log).not.toContain(secret);
    // Nor a part of one that could not be guessed.
    for (let at = 26; at + 20 <= secret.length; at += 10) expect(log).not.toContain(secret.slice(at, at + 20));
  }
  expect(log).not.toContain('sealed-away');
  const lines = scratch.log
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line['msg'] === 'request');
  expect(lines).toContainEqual(
    expect.objectContaining({
      method: 'POST',
      route: '/v1/keys/:id/rotate',
      status: 201,
      keyId: expect.any(String),
      durationMs: expect.any(Number),
      requestId: expect.any(String),
    }),
  );
  expect(lines).toContainEqual(
    expect.objectContaining({ route: 'unmatched', status: 400, cause: 'credential_in_url' }),
  );
  expect(lines).toContainEqual(expect.objectContaining({ status: 403, cause: 'insufficient_permissions', keyId: id }));
  await scratch.app.close();
});
