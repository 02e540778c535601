import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { APIKeyGenerator, PantheonError, Secret, toProblem } from 'pantheon-auth';
import { expect, onTestFinished, test } from 'vitest';
import { EXIT } from './exit-codes.ts';
import { run } from './program.ts';
import { RemoteTransport } from './remote-transport.ts';
import { call } from './transport.ts';

const { key: KEY } = new APIKeyGenerator().generateKey();

interface Stand {
  readonly transport: RemoteTransport;
  readonly url: string;
  readonly seen: IncomingMessage[];
  readonly waits: number[];
}

/** A server that answers one request after the other as it is told. */
async function standIn(...answers: readonly RequestListener[]): Promise<Stand> {
  const seen: IncomingMessage[] = [];
  const waits: number[] = [];
  const server = createServer((request, response) => {
    seen.push(request);
    request.resume();
    const answer = answers[Math.min(seen.length, answers.length) - 1];
    answer?.(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const transport = new RemoteTransport({
    url: `${url}/base/`,
    callerKey: async () => ({ scheme: 'bearer', secret: Secret.of(KEY) }),
    wait: async (seconds) => {
      waits.push(seconds);
    },
  });
  return { transport, url, seen, waits };
}

const answer =
  (status: number, body: string | object, headers: Record<string, string> = {}): RequestListener =>
  (_request, response) => {
    response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
  };
const busy = (code: 'store_unavailable' | 'outcome_unknown' | 'rate_limited', seconds: string): RequestListener =>
  answer(code === 'rate_limited' ? 429 : 503, toProblem(code), { 'retry-after': seconds });
const fine = answer(200, { fine: true });

async function failure(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error: unknown = await promise.catch((caught: unknown) => caught);
  if (!(error instanceof PantheonError)) throw new Error('it fails', { cause: error });
  expect(error.message).not.toContain(KEY);
  return { code: error.code, message: error.message };
}

test('a request carries the key in its header, and its query and body as they were given', async () => {
  const { transport, seen } = await standIn(fine);
  const response = await transport.request('GET', '/v1/keys', { query: { q: 'a b&c', none: undefined } });
  expect(response).toMatchObject({ status: 200, body: { fine: true } });
  expect(seen[0]?.url).toBe('/base/v1/keys?q=a+b%26c');
  expect(seen[0]?.headers).toMatchObject({ authorization: `Bearer ${KEY}`, accept: 'application/json' });
});

test.each(['store_unavailable', 'rate_limited'] as const)(
  '%s is retried once, after the time it asks for',
  async (code) => {
    const { transport, seen, waits } = await standIn(busy(code, '7'), fine);
    expect(await transport.request('POST', '/v1/keys', { body: {} })).toMatchObject({ status: 200 });
    expect(seen).toHaveLength(2);
    expect(waits).toEqual([7]);
  },
);

test('it is retried once and not again', async () => {
  const { transport, seen } = await standIn(busy('store_unavailable', '1'));
  expect(await transport.request('GET', '/v1/keys')).toMatchObject({ status: 503 });
  expect(seen).toHaveLength(2);
});

test.each([
  ['a longer wait is the decision of the user', busy('rate_limited', '3600'), 'GET'],
  ['no time is named', answer(503, toProblem('overloaded')), 'GET'],
  ['the time is a date', busy('rate_limited', 'Fri, 31 Dec 1999 23:59:59 GMT'), 'GET'],
  ['the change may have been made', busy('outcome_unknown', '1'), 'POST'],
  ['something else than our server said it of a change', answer(503, '<html>', { 'retry-after': '1' }), 'POST'],
] as const)('it is not retried if %s', async (_why, first, method) => {
  const { transport, seen, waits } = await standIn(first, fine);
  expect((await transport.request(method, '/v1/keys')).status).toBeGreaterThanOrEqual(429);
  expect(seen).toHaveLength(1);
  expect(waits).toEqual([]);
});

test('a redirect is not followed: the key is sent only to the given server', async () => {
  const other = await standIn(fine);
  const { transport } = await standIn(answer(307, '', { location: other.url }));
  const refused = await failure(call(transport, 'GET', '/v1/keys'));
  expect(refused).toMatchObject({ code: 'invalid_setting', message: expect.stringContaining('redirects') });
  expect(other.seen).toHaveLength(0);
});

test('an answer of another API is reported as such, and one of a proxy as unavailable', async () => {
  const page = await standIn(answer(200, '<html>'));
  expect(await failure(call(page.transport, 'GET', '/v1/keys'))).toMatchObject({ code: 'invalid_setting' });
  const list = await standIn(answer(200, []));
  expect(await failure(call(list.transport, 'GET', '/v1/keys'))).toMatchObject({ code: 'invalid_setting' });
  const gateway = await standIn(answer(502, '<html>'));
  expect(await failure(call(gateway.transport, 'GET', '/v1/keys'))).toMatchObject({ code: 'store_unavailable' });
});

test('an endless answer is cut off', async () => {
  const endless = await standIn((_request, response) => {
    const pour = (): void => {
      while (response.writable && response.write('x'.repeat(65_536)));
    };
    response
      .writeHead(200)
      .on('drain', pour)
      .on('error', () => {});
    pour();
  });
  expect(await failure(endless.transport.request('GET', '/v1/keys'))).toMatchObject({ code: 'invalid_setting' });
});

test('a connection that breaks after a change was sent leaves its outcome unknown; after a read it is an outage', async () => {
  const { transport } = await standIn((request) => request.socket.destroy());
  expect(await failure(transport.request('POST', '/v1/keys', { body: {} }))).toMatchObject({ code: 'outcome_unknown' });
  expect(await failure(transport.request('GET', '/v1/keys'))).toMatchObject({ code: 'store_unavailable' });
});

test('a server that cannot be reached has changed nothing', async () => {
  const closed = createServer().listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const { port } = closed.address() as AddressInfo;
  closed.close();
  await once(closed, 'close');
  const callerKey = async () => ({ scheme: 'bearer', secret: Secret.of(KEY) }) as const;
  const transport = new RemoteTransport({ url: `http://127.0.0.1:${port}`, callerKey });
  expect(await failure(transport.request('POST', '/v1/keys', { body: {} }))).toMatchObject({
    code: 'store_unavailable',
  });
});

test('a key is sent unencrypted only to this machine, or if that is set', () => {
  const callerKey = async () => ({ scheme: 'bearer', secret: Secret.of(KEY) }) as const;
  const open =
    (url: string, insecureHttp = false) =>
    () =>
      new RemoteTransport({ url, callerKey, insecureHttp });
  for (const url of ['http://localhost:8787', 'http://127.0.0.1', 'http://[::1]:1/', 'https://auth.example.com/x'])
    expect(open(url)).not.toThrow();
  for (const url of ['http://auth.example.com', 'http://127.0.0.1.example.com', 'http://localhost.example.com'])
    expect(open(url)).toThrow(/--insecure-http/);
  expect(open('http://auth:8787', true)).not.toThrow();
  for (const url of ['auth.example.com', 'https://a.example/?q=1', 'https://a.example/#x', 'https://u@a.example'])
    expect(open(url, true)).toThrow(/Write http/);
});

async function cli(args: readonly string[], url: string, stdin: string) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const input = Object.assign(Readable.from([stdin]), { isTTY: false }) as unknown as NodeJS.ReadStream;
  const code = await run(args, { stdin: input, stdout, stderr, variables: { URL: url }, environment: {} });
  stdout.end();
  stderr.end();
  return { code, out: await text(stdout), err: await text(stderr) };
}

test('a token with a longer lifetime than requested is not passed on', async () => {
  const { url } = await standIn(answer(200, { access_token: 'eyJ.eyJ.sig', token_type: 'Bearer', expires_in: 300 }));
  const longer = await cli(['token', 'exchange', '--ttl', '1m'], url, KEY);
  expect(longer).toMatchObject({ code: EXIT.notAllowed, out: '' });
  expect(longer.err).toContain('300 seconds (ttl)');
  expect(await cli(['token', 'exchange', '--ttl', '5m'], url, KEY)).toMatchObject({
    code: EXIT.ok,
    out: 'eyJ.eyJ.sig\n',
  });
});

test('a token request has the parameters of OAuth, and sends the key as client secret', async () => {
  const bodies: Promise<string>[] = [];
  const { url, seen } = await standIn((request, response) => {
    bodies.push(text(request));
    answer(200, { access_token: 'eyJ.eyJ.sig', expires_in: 60 })(request, response);
  });
  const wish = ['--audience', 'https://a.example', 'b', '--permission', 'a:b', 'c:*', '--ttl', '60', '--json'];
  expect(await cli(['token', 'exchange', ...wish], url, KEY)).toMatchObject({ code: EXIT.ok, err: '' });
  expect(await bodies[0]).toBe(
    'grant_type=client_credentials&audience=https%3A%2F%2Fa.example&audience=b&scope=a%3Ab+c%3A*&ttl=60',
  );
  const basic = Buffer.from(`${KEY.slice(9, 25)}:${KEY}`).toString('base64');
  expect(seen[0]?.headers.authorization).toBe(`Basic ${basic}`);
});

test('an outage during a token verification is not reported as a denial', async () => {
  const token = 'a.b.c';
  const down = await standIn(answer(503, toProblem('store_unavailable')));
  expect(await cli(['token', 'verify'], down.url, token)).toMatchObject({ code: EXIT.unavailable, out: '' });
  const dead = await standIn(answer(401, toProblem('invalid_key')));
  const verdict = await cli(['token', 'verify', '--json'], dead.url, token);
  expect({ code: verdict.code, body: JSON.parse(verdict.out) }).toEqual({
    code: EXIT.refused,
    body: { valid: false, code: 'invalid_key' },
  });
  const options = await cli(['token', 'verify', '--audience', 'x'], dead.url, token);
  expect(options).toMatchObject({ code: EXIT.usage, out: '' });
});

test('a damaged record is marked in the list', async () => {
  const items = [{ id: '0123456789abcdef', createdAt: '2030-01-01T00:00:00.000Z', quarantined: true }];
  const { url } = await standIn(answer(200, { items, nextCursor: null }));
  const context = { stdout: new PassThrough(), stderr: new PassThrough(), environment: {} };
  const stdin = Readable.from(['']) as unknown as NodeJS.ReadStream;
  const code = await run(['keys', 'list'], { ...context, stdin, variables: { URL: url, KEY } });
  context.stdout.end();
  expect(code).toBe(EXIT.ok);
  expect(await text(context.stdout)).toContain('0123456789abcdef  -     -     -    quarantined');
});
