/** Bad input gets a clear error, loses nothing, and shows nothing of what was sent. Over a real socket where it matters. */

import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  BODY_BYTES_MAX,
  FORM_BYTES_MAX,
  HANDLER_TIMEOUT_MS,
  HEADER_BYTES_MAX,
  REQUEST_TIMEOUT_MS,
  TIMEOUTS_CHECK_MS,
} from '../src/settings/server-bounds.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

let service: ScratchService;
let port = 0;
beforeAll(async () => {
  service = await openScratchService();
  await service.app.listen({ port: 0, host: '127.0.0.1' });
  port = (service.app.server.address() as AddressInfo).port;
});
afterAll(() => service.close());

/** Sends bytes as they are, and answers what comes back until the connection ends. */
function raw(text: string, { end = false } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }, () => {
      socket.write(text);
      if (end) socket.end();
    });
    socket.on('end', () => socket.end());
    socket.on('data', (data) => {
      answer += data.toString('latin1');
    });
    socket.on('close', () => resolve(answer));
    socket.on('error', reject);
  });
}

const ending = 'Connection: close\r\n\r\n';

describe('bodies', () => {
  const valid = '"userId":"u","name":"n"';
  test.each<[string, string, number, string]>([
    ['no JSON', '{', 400, 'invalid_json'],
    ['text after the end', `{${valid}} x`, 400, 'invalid_json'],
    ['a byte order mark', `\ufeff{${valid}}`, 400, 'invalid_json'],
    ['a list', '[]', 400, 'invalid_request'],
    ['null', 'null', 400, 'invalid_request'],
    ['text', '"x"', 400, 'invalid_request'],
    ['a number that changes when it is read', `{${valid},"metadata":{"n":9007199254740993}}`, 400, 'invalid_json'],
    ['a number that becomes 0', `{${valid},"metadata":{"n":1e-400}}`, 400, 'invalid_json'],
    ['a number without end', `{${valid},"quota":{"limit":1e400,"period":"day"}}`, 400, 'invalid_json'],
    ['an unknown member with such a number', `{${valid},"x":9007199254740993}`, 400, 'invalid_json'],
    ['a member twice', `{${valid},"name":"m"}`, 400, 'invalid_json'],
    ['a member twice, once escaped', `{${valid},"n\\u0061me":"m"}`, 400, 'invalid_json'],
    ['__proto__', `{${valid},"__proto__":{"a":1}}`, 400, 'invalid_json'],
    ['constructor.prototype', `{${valid},"constructor":{"prototype":{"a":1}}}`, 400, 'invalid_json'],
    ['depth', `{${valid},"metadata":${'['.repeat(30_000)}${']'.repeat(30_000)}}`, 400, 'invalid_json'],
    ['a number beyond the doubles', `{${valid},"metadata":{"a":1e999}}`, 400, 'invalid_json'],
    ['a lone surrogate', `{"userId":"u","name":"\\ud800"}`, 400, 'invalid_json'],
    ['too much', `{${valid},"description":"${'a'.repeat(BODY_BYTES_MAX)}"}`, 413, 'payload_too_large'],
    ['nothing', '', 400, 'invalid_request'],
    ['an unknown field', `{${valid},"owner":"x"}`, 400, 'invalid_request'],
    ['a field of the server', `{${valid},"tenantId":"system"}`, 400, 'invalid_request'],
    ['a wrong type', '{"userId":1,"name":"n"}', 400, 'invalid_request'],
    ['a list for text', '{"userId":["u"],"name":"n"}', 400, 'invalid_request'],
    ['an empty name', '{"userId":"u","name":""}', 400, 'invalid_request'],
    ['a long name', `{"userId":"u","name":"${'n'.repeat(129)}"}`, 400, 'invalid_request'],
    ['an expiry in the past', `{${valid},"expiresAt":"2020-01-01T00:00:00Z"}`, 400, 'invalid_request'],
    ['a permission that is none', `{${valid},"permissions":["Docs Read"]}`, 400, 'invalid_request'],
    ['a line break in a name', '{"userId":"u","name":"a\\nb"}', 400, 'invalid_request'],
  ])('%s', async (_name, body, status, code) => {
    const before = (await service.call('GET', '/v1/keys')).text;
    const answer = await service.call('POST', '/v1/keys', {
      body,
      headers: { 'content-type': 'application/json' },
    });
    expect({ status: answer.status, code: answer.body['code'] }).toEqual({ status, code });
    expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8');
    if (code === 'invalid_request') expect(answer.body['field']).toEqual(expect.any(String));
    expect((await service.call('GET', '/v1/keys')).text).toBe(before);
    expect(Object.prototype).not.toHaveProperty('a');
  });

  test('bytes that are not UTF-8 are refused', async () => {
    const body = Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d]);
    const response = await service.app.inject({
      method: 'POST',
      url: '/v1/keys/verify',
      payload: body,
      headers: { authorization: `Bearer ${service.rootKey}`, 'content-type': 'application/json' },
    });
    expect(response.json()).toMatchObject({ status: 400, code: 'invalid_json' });
  });

  test.each([
    'application/json\ta',
    'application/json garbage',
    'application/json; charset=latin1',
    'application/json, text/plain',
    'text/plain',
    'multipart/form-data; boundary=x',
    'application/x-www-form-urlencoded; charset=utf-16',
    'application/jsonx',
    'garbage',
  ])('the content type %j is refused', async (type) => {
    const { status, body } = await service.call('POST', '/v1/keys/verify', {
      body: '{}',
      headers: { 'content-type': type },
    });
    expect({ status, code: body['code'] }).toEqual({ status: 415, code: 'unsupported_media_type' });
  });

  test('a body without a type, and a compressed one, are refused', async () => {
    const head = `POST /v1/keys/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${service.rootKey}\r\n`;
    expect(await raw(`${head}Content-Length: 2\r\n${ending}{}`)).toMatch(/^HTTP\/1.1 415/);
    const gzip = `${head}Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n${ending}{}`;
    expect(await raw(gzip)).toMatch(/^HTTP\/1.1 415/);
  });

  test('a form in place of JSON is refused', async () => {
    const { apiKey } = await service.create();
    for (const url of ['/v1/keys', `/v1/keys/${apiKey.id}/rotate`, `/v1/keys/${apiKey.id}/revoke`])
      expect((await service.call('POST', url, { form: 'userId=u' })).status, url).toBe(415);
    expect((await service.call('POST', '/oauth2/token', { body: {} })).status).toBe(415);
  });

  test.each([['application/json'], ['application/json; charset=utf-8'], ['Application/JSON;charset="UTF-8"']])(
    'the content type %j is accepted',
    async (type) => {
      const answer = await service.call('POST', '/v1/keys/verify', {
        body: { key: 'x' },
        headers: { 'content-type': type },
      });
      expect(answer.status).toBe(200);
    },
  );
});

describe('credentials', () => {
  const get = (headers: string) => raw(`GET /v1/self HTTP/1.1\r\nHost: x\r\n${headers}${ending}`);

  test('two Authorization headers are refused, although Node keeps only the first', async () => {
    const one = `Authorization: Bearer ${service.rootKey}\r\n`;
    const same = `X-API-Key: ${service.rootKey}\r\n`;
    for (const good of [one, one + same]) expect(await get(good)).toMatch(/^HTTP\/1.1 200/);
    for (const both of [one + one, `${one}Authorization: Bearer x\r\n`, `${one}X-API-Key: x\r\n`, same + same]) {
      const answer = await get(both);
      expect(answer).toMatch(/^HTTP\/1.1 400/);
      expect(answer).toContain('"code":"ambiguous_credential"');
    }
  });

  test('a second credential after a thousand headers is found', async () => {
    const many = Array.from({ length: 1_500 }, (_, at) => `a${at}: 1\r\n`).join('');
    const one = `Authorization: Bearer ${service.rootKey}\r\n`;
    expect(await get(one + many + one)).toMatch(/^HTTP\/1.1 400/);
  });

  test('the scheme is accepted in any case, and no other scheme is', async () => {
    for (const scheme of ['bearer', 'BEARER'])
      expect(await get(`Authorization: ${scheme} ${service.rootKey}\r\n`)).toMatch(/ 200 /);
    for (const value of [
      `Bearer  ${service.rootKey}`,
      `Basic ${service.rootKey}`,
      `Token ${service.rootKey}`,
      service.rootKey,
      'Bearer',
    ])
      expect(await get(`Authorization: ${value}\r\n`), value.slice(0, 8)).toMatch(/^HTTP\/1.1 401/);
  });

  test('a caller without a valid secret gets one answer, whatever the cause', async () => {
    const { key } = await service.create();
    const revoked = await service.create();
    const shapes = await Promise.all(
      ['x', `${key.slice(0, -1)}!`, key.toLowerCase(), `${key}0`, `${key.slice(0, 26)}${revoked.key.slice(26)}`].map(
        async (credential, at) => {
          const answer = await service.call('GET', '/v1/self', { key: credential, address: `198.51.100.${at}` });
          return {
            ...answer,
            text: '',
            headers: { ...answer.headers, date: '' },
            body: { ...answer.body, instance: '' },
          };
        },
      ),
    );
    for (const shape of shapes) expect(shape).toEqual(shapes[0]);
    expect(shapes[0]?.body).toMatchObject({ status: 401, code: 'invalid_key' });
  });

  test.each([
    ['in the query', (key: string) => `/v1/keys?key=${key}`],
    ['in the path', (key: string) => `/v1/keys/${key}`],
    ['where nothing is', (key: string) => `/nowhere/${key}?a=b`],
    ['percent-encoded', (key: string) => `/v1/keys?key=${key.replace('_', '%5f').replace('live', 'l%69ve')}`],
    ['at a public address', (key: string) => `/healthz?api_key=${key}`],
  ])('a credential %s is refused also beside a valid one', async (_name, url) => {
    const { key } = await service.create();
    const answer = await service.call('GET', url(key));
    expect(answer).toMatchObject({ status: 400, body: { code: 'credential_in_url' } });
    expect(answer.text + service.log.join('')).not.toContain(key.slice(-49));
  });
});

describe('requests', () => {
  test('headers that are too large get 431, and a malformed request 400, both as problems', async () => {
    const large = await raw(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(HEADER_BYTES_MAX)}\r\n${ending}`);
    expect(large).toMatch(/^HTTP\/1.1 431/);
    expect(large).toContain('"code":"headers_too_large"');
    expect(large).toContain('x-content-type-options: nosniff');
    for (const text of [
      'NONSENSE\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      'POST /oauth2/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n',
    ]) {
      const answer = await raw(text);
      expect(answer).toMatch(/^HTTP\/1.1 400 Bad Request\r\n/);
      expect(answer).toContain('"detail":"The bytes received are not an HTTP request."');
      expect(answer).not.toContain('NONSENSE');
    }
  });

  test.each([
    ['JSON', '/v1/keys', 'application/json'],
    ['a form', '/oauth2/token', 'application/x-www-form-urlencoded'],
  ])('%s that is incomplete is a 408, and a problem', async (_name, path, type) => {
    const { server } = service.app;
    const { requestTimeout, headersTimeout } = server;
    server.requestTimeout = 100;
    server.headersTimeout = 100;
    const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${service.rootKey}\r\n`;
    const half = `${head}Content-Type: ${type}\r\nContent-Length: 100\r\n\r\n{"name`;
    const answers = await Promise.all([raw(half), raw(half, { end: true }), raw(head), raw(head, { end: true })]);
    server.requestTimeout = requestTimeout;
    server.headersTimeout = headersTimeout;
    for (const answer of answers) {
      expect(answer).toMatch(/^HTTP\/1.1 408 Request Timeout\r\n/);
      expect(answer).toContain('\r\ncontent-type: application/problem+json');
      expect(answer).toContain('\r\nconnection: close\r\n');
      expect(answer).toContain('"code":"request_timeout"');
    }
  });

  test('a request that is refused before its body has arrived is answered once', async () => {
    const { server } = service.app;
    const { requestTimeout } = server;
    server.requestTimeout = 100;
    const half = 'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"name';
    const answer = await raw(`POST /v1/keys HTTP/1.1\r\nHost: x\r\n${half}`);
    server.requestTimeout = requestTimeout;
    expect(answer).toMatch(/^HTTP\/1.1 401 Unauthorized\r\n/);
    expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
  });

  test('a late body is reported as such, before the time limit of the handler', () => {
    expect(HANDLER_TIMEOUT_MS).toBeGreaterThan(REQUEST_TIMEOUT_MS + TIMEOUTS_CHECK_MS);
  });

  test('a form is parsed before authentication, and its size is bounded', async () => {
    const payload = `client_secret=${'a'.repeat(FORM_BYTES_MAX)}`;
    const answer = await service.app.inject({
      method: 'POST',
      url: '/oauth2/token',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      payload,
    });
    expect(answer.statusCode).toBe(413);
  });

  test('an unknown expectation is a 417, and a problem; 100-continue is supported', async () => {
    const post = (expectation: string) =>
      raw(
        `POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${service.rootKey}\r\nExpect: ${expectation}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n${ending}{}`,
      );
    const refused = await post('a-miracle');
    expect(refused).toMatch(/^HTTP\/1.1 417 Expectation Failed\r\n/);
    expect(refused).toContain('"code":"expectation_failed"');
    expect(refused).toContain('x-content-type-options: nosniff');
    expect(await post('100-continue')).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 400 /);
  });

  test('a request without a Host is refused, and no answer is built from it', async () => {
    const answer = await raw(`GET / HTTP/1.1\r\n${ending}`);
    expect(answer).toMatch(/^HTTP\/1.1 400/);
    expect(answer).toContain('"field":"Host"');
    expect(await raw(`GET /healthz HTTP/1.0\r\n${ending}`)).toMatch(/^HTTP\/1.1 200/);
    for (const path of ['/', '/.well-known/oauth-authorization-server', '/docs', '/openapi.json', '/v1/keys']) {
      const answer = await raw(`GET ${path} HTTP/1.1\r\nHost: evil.example\r\n${ending}`);
      expect(answer, path).not.toContain('evil');
    }
  });

  test.each([
    ['Host', 'Host: x\r\nHost: x'],
    ['Host', 'Host: x\r\nhOST: y'],
    ['Host', 'Host: x, y z'],
    ['Host', 'Host: a@b'],
    ['Host', 'Host: x:80:80'],
    ['Content-Type', 'Host: x\r\nContent-Type: application/json\r\nContent-Type: text/plain'],
    ['Idempotency-Key', 'Host: x\r\nIdempotency-Key: a\r\nIdempotency-Key: a'],
    ['Pantheon-Tenant', 'Host: x\r\nPantheon-Tenant: default\r\nPantheon-Tenant: default'],
  ])('a header with two values where one is allowed is a 400 that names it: %s in %j', async (field, lines) => {
    for (const path of ['/healthz', '/v1/keys', '/nowhere']) {
      const answer = await raw(`GET ${path} HTTP/1.1\r\n${lines}\r\n${ending}`);
      expect(answer, path).toMatch(/^HTTP\/1.1 400/);
      expect(answer).toContain('content-type: application/problem+json');
      expect(answer).toContain(`"field":"${field}"`);
    }
  });

  test.each(['', 'auth.example.com', 'auth.example.com:8787', '127.0.0.1:1', '[::1]:8787', 'a_b'])(
    'Host: %j is accepted',
    async (host) => {
      expect(await raw(`GET /healthz HTTP/1.1\r\nHost: ${host}\r\n${ending}`)).toMatch(/^HTTP\/1.1 200/);
    },
  );

  test.each(['PUT', 'DELETE', 'TRACE', 'PROPFIND'])('%s on a route without it gets 405 and Allow', async (method) => {
    const answer = await raw(`${method} /v1/keys HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: GET\r\n${ending}`);
    expect(answer).toMatch(/^HTTP\/1.1 405/);
    expect(answer).toContain('\r\nallow: POST, GET, HEAD, OPTIONS\r\n');
  });

  test.each([
    '/v1/leaks',
    '/v1/alerts',
    '/v1/webhooks',
    '/oauth2/introspect',
    '/oauth2/revoke',
    '/v1/revocations',
    '/V1/keys',
    '/v1/keys/',
    '//v1/keys',
    '/v1/keys/%2e%2e',
  ])('%s is a 404', async (url) => {
    const { status } = await service.call('POST', url, { body: '{', headers: { 'content-type': 'application/json' } });
    expect([404, 405]).toContain(status);
  });

  test.each([
    '/v1/keys?limit=0',
    '/v1/keys?limit=201',
    '/v1/keys?limit=1&limit=2',
    '/v1/keys?userId=',
    '/v1/keys?userId',
    '/v1/keys?userId=%20',
    '/v1/keys?q=',
    '/v1/keys?state=',
    '/v1/keys?environment=',
    '/v1/keys?cursor=',
    '/v1/keys?limit=',
    '/v1/events?subjectId=',
    '/v1/events?type=',
    '/v1/events?subjectType=',
    '/v1/usage?from=',
    '/v1/tenants?cursor=',
    '/v1/keys?Limit=1',
    '/v1/keys?limit=1e1',
    '/v1/keys?state=dead',
    '/v1/keys?__proto__=1',
    '/v1/keys?cursor=x',
    '/v1/self?x',
    '/v1/keys?settle=true',
  ])('the query of %s is refused', async (url) => {
    expect(await service.call('GET', url)).toMatchObject({
      status: 400,
      body: { code: expect.stringMatching(/^invalid_/) },
    });
  });

  test.each(['/', '/healthz', '/readyz', '/.well-known/jwks.json', '/docs', '/openapi.json'])(
    'query parameters that %s does not know are ignored, by GET and by HEAD',
    async (path) => {
      for (const method of ['GET', 'HEAD'] as const)
        for (const query of ['', '?', '?cachebust=1', '?a=1&a=2', '?settle=true'])
          expect((await service.call(method, path + query, { key: null })).status, query).toBe(200);
    },
  );

  test.each([
    ['/', 'GET, HEAD, OPTIONS'],
    ['/docs', 'GET, HEAD, OPTIONS'],
    ['/healthz', 'GET, HEAD, OPTIONS'],
    ['/oauth2/token', 'POST, OPTIONS'],
    ['/v1/keys?limit=1', 'POST, GET, HEAD, OPTIONS'],
    ['/v1/keys/anything', 'GET, HEAD, PATCH, OPTIONS'],
    ['/v1/tenants/anything', 'GET, HEAD, PATCH, DELETE, OPTIONS'],
    ['*', 'GET, HEAD, POST, PATCH, DELETE, OPTIONS'],
  ])('OPTIONS %s is answered with 204 and %s, without a credential', async (path, allow) => {
    const answer = await raw(`OPTIONS ${path} HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n${ending}`);
    expect(answer).toMatch(/^HTTP\/1.1 204 No Content\r\n/);
    expect(answer).toContain(`\r\nallow: ${allow}\r\n`);
    // No page of another origin is let in.
    expect(answer).not.toContain('access-control-allow');
  });

  test('OPTIONS of an unknown path is a 404, and every documented path has an answer', async () => {
    expect((await service.call('OPTIONS', '/nowhere', { key: null })).status).toBe(404);
    const { body } = await service.call('GET', '/openapi.json');
    for (const path of Object.keys(body['paths'] as object)) {
      const { status } = await service.call('OPTIONS', path.replace(/\{\w+\}/g, '1'), { key: null });
      expect(status, path).toBe(204);
    }
  });

  test('a path that cannot be decoded is refused', async () => {
    expect((await service.call('GET', '/v1/keys/%zz')).status).toBe(400);
  });

  test('a client that disconnects in the middle of its body has no effect', async () => {
    const head = `POST /v1/keys/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${service.rootKey}\r\n`;
    await new Promise<void>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.write(`${head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"key`, () =>
          socket.destroy(),
        );
      });
      socket.on('close', () => resolve());
    });
    expect((await service.call('GET', '/healthz')).status).toBe(200);
    expect(service.log.join('')).not.toContain('should not');
  });
});

test('no request of these tests caused an internal error', () => {
  expect(service.log.filter((line) => line.includes('"level":"error"'))).toEqual([]);
});
