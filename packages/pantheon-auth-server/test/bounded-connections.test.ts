/**
 * What a client can make the service keep or do by sending much and reading nothing is bounded: requests sent ahead,
 * answers that are not read, bodies that are half sent, of one connection and of all of them. Work is counted and not
 * timed.
 */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import type { PantheonAuth } from 'pantheon-auth';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { allOperations, createApp } from '../src/app.ts';
import { createLogger } from '../src/http/logging.ts';
import { Metrics } from '../src/service/metrics.ts';
import {
  ANSWERS_BYTES_MAX,
  BODIES_BYTES_MAX,
  BODY_BYTES_MAX,
  HEADER_BYTES_MAX,
  SMALL_BODY_BYTES_MAX,
  UNANSWERED_MAX,
  UNREAD_TIMEOUT_MS,
  WAITING_BYTES_MAX,
} from '../src/settings/server-bounds.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

let service: ScratchService;
/** The sockets of the service that are open. */
const accepted = new Set<Socket>();
/** How many there were. */
let acceptedCount = 0;
const clients: Socket[] = [];

beforeAll(async () => {
  service = await openScratchService({ LOG_LEVEL: 'error' });
  await service.app.listen({ port: 0, host: '127.0.0.1' });
  service.app.server.on('connection', (socket: Socket) => {
    accepted.add(socket);
    acceptedCount += 1;
    socket.once('close', () => accepted.delete(socket));
  });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await expect.poll(() => accepted.size, { timeout: 10_000 }).toBe(0);
});
afterAll(() => service.close());

const portOf = (server: Server) => (server.address() as AddressInfo).port;

/** A client that reads only what `reads` says, and after `text` sends nothing more. */
async function client(text: string, { reads = false, server = service.app.server } = {}): Promise<Socket> {
  const socket = connect(portOf(server), '127.0.0.1');
  clients.push(socket);
  socket.on('error', () => {});
  if (!reads) socket.pause();
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

/** Opens clients that send `text` one after the other. Returns when the service has heard all of them. */
async function manyClients(count: number, text: string): Promise<void> {
  const before = acceptedCount;
  for (let made = 0; made < count; made += 1) await client(text);
  await expect.poll(() => acceptedCount).toBe(before + count);
}

/** What a client is answered until its connection is closed. */
async function answerTo(text: string, server?: Server): Promise<string> {
  const socket = await client(text, { reads: true, ...(server !== undefined && { server }) });
  let answer = '';
  socket.on('data', (data) => {
    answer += data.toString('latin1');
  });
  await once(socket, 'close');
  return answer;
}

test('bodies that are refused before they have arrived leave the room that they announced', async () => {
  const head = (path: string, length: number, more: string): string =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${length}\r\n${more}\r\n\r\n`;
  const tooLarge = head(
    '/v1/keys/verify',
    BODY_BYTES_MAX + 1,
    `Content-Type: application/json\r\nAuthorization: Bearer ${service.rootKey}`,
  );
  for (let sent = 0; sent < BODIES_BYTES_MAX / BODY_BYTES_MAX; sent += 1)
    expect(await answerTo(`${tooLarge}{`)).toMatch(/^HTTP\/1\.1 413 /);
  const form = `grant_type=client_credentials&client_id=x&client_secret=${'y'.repeat(SMALL_BODY_BYTES_MAX)}`;
  const type = 'Content-Type: application/x-www-form-urlencoded';
  expect(await answerTo(head('/oauth2/token', form.length, type) + form)).toMatch(/^HTTP\/1\.1 401 /);
}, 30_000);

/** Calls `work` and counts the requests that the server hands on meanwhile. */
async function startedDuring(server: Server, work: () => Promise<unknown>): Promise<number> {
  let started = 0;
  const count = (): void => {
    started += 1;
  };
  server.prependListener('request', count).prependListener('checkExpectation', count);
  await work();
  server.off('request', count).off('checkExpectation', count);
  return started;
}

const get = (path: string, headers = ''): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;
const statusesOf = (answer: string): readonly string[] =>
  [...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status ?? '');

describe('requests sent ahead', () => {
  test.each([
    ['a health check', get('/healthz')],
    ['the OpenAPI file', get('/openapi.json')],
    ['the public keys', get('/.well-known/jwks.json')],
    ['an unknown path', get('/none')],
    ['a path that cannot be decoded', get('/%')],
    ['no credential', get('/v1/self')],
    ['a credential in the URL', get('/?key=pk_live_x')],
    ['the methods of a path', 'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['100-continue', get('/healthz', 'Expect: 100-continue\r\n')],
    ['an unknown Expect', get('/healthz', 'Expect: nothing\r\n')],
    ['a body', 'POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}'],
  ])('%s a thousand times in one packet: a few are started and the connection is closed', async (_name, text) => {
    const started = await startedDuring(service.app.server, () => answerTo(text.repeat(1_000)));
    // One may be answered while the packet is being read.
    expect(started).toBeLessThanOrEqual(UNANSWERED_MAX + 1);
  });

  test('the metrics listener has the same bound', async () => {
    const server = new Metrics(service.auth).server(() => {});
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const started = await startedDuring(server, () => answerTo(get('/metrics').repeat(500), server));
    server.close();
    expect(started).toBeLessThanOrEqual(UNANSWERED_MAX);
  });

  test('a few are answered, one after the other, in their order', async () => {
    const body = '{"userId":"u","name":"ahead"}';
    const credential = `Authorization: Bearer ${service.rootKey}\r\n`;
    const create = `POST /v1/keys HTTP/1.1\r\nHost: x\r\n${credential}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const few = [get('/healthz'), get('/none'), create, get('/v1/keys?q=ahead', credential), get('/v1/self')];
    const last = get('/readyz', 'Connection: close\r\n');
    const answer = await answerTo([...few, ...few, ...few, last].join(''));
    const one = ['200', '404', '201', '200', '401'];
    expect(statusesOf(answer)).toEqual([...one, ...one, ...one, '200']);
    // Each list was read after the keys before it had been created.
    const lists = answer.split('HTTP/1.1 ').filter((part) => part.includes('"items"') || part.includes('"apiKeys"'));
    expect(lists.map((list) => list.match(/"name":"ahead"/g)?.length)).toEqual([1, 2, 3]);
  });

  test('a connection has one request under way', async () => {
    const asked: number[] = [];
    const keys = { list: () => new Promise(() => void asked.push(1)) };
    const auth = { ...service.auth, tenant: () => ({ keys }) } as unknown as PantheonAuth;
    const app = await createApp({ auth, config: service.config, logger: createLogger('silent') });
    await app.listen({ port: 0, host: '127.0.0.1' });
    const list = get('/v1/keys', `Authorization: Bearer ${service.rootKey}\r\nPantheon-Tenant: default\r\n`);
    const socket = await client(list.repeat(3), { server: app.server });
    await expect.poll(() => asked).toEqual([1]);
    await pause(50); // The others would have been asked for in the same turn.
    expect(asked).toEqual([1]);
    socket.destroy();
    await app.close();
  });

  test('those of all connections together are bounded: a connection that waits is closed for another', async () => {
    const script = get('/docs/scalar.js');
    await service.call('GET', '/docs/scalar.js');
    const perConnection = UNANSWERED_MAX - 1;
    const most = Math.floor(WAITING_BYTES_MAX / HEADER_BYTES_MAX / perConnection) + 1;
    await manyClients(most + 20, script.repeat(1 + perConnection));
    await expect.poll(() => accepted.size, { timeout: 5_000 }).toBeLessThanOrEqual(most);
    expect(accepted.size).toBeGreaterThan(most - 20);
  });
});

describe('answers that are not read', () => {
  test('the constants that anybody may ask for are in memory once', async () => {
    const bytes = (await service.call('GET', '/docs/scalar.js')).text.length;
    const before = process.memoryUsage().arrayBuffers;
    await manyClients(30, get('/docs/scalar.js'));
    await expect.poll(() => [...accepted].filter((socket) => socket.writableLength > 0).length).toBe(30);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(6 * bytes);
  });

  test('a connection that takes nothing is given a time, after which it is closed', async () => {
    await client(get('/docs/scalar.js'));
    await expect
      .poll(() => [...accepted].map(({ timeout }) => timeout), { timeout: 10_000 })
      .toEqual([UNREAD_TIMEOUT_MS]);
    for (const socket of accepted) socket.emit('timeout');
    await expect.poll(() => accepted.size).toBe(0);
  });

  test('those of all connections together are bounded', async () => {
    // More than the system takes for two sockets, so that it stays in the process.
    const bytes = ANSWERS_BYTES_MAX / 4;
    const events = { list: async () => ({ items: ['x'.repeat(bytes)] }) };
    const auth = { ...service.auth, events } as unknown as PantheonAuth;
    const app = await createApp({ auth, config: service.config, logger: createLogger('silent') });
    await app.listen({ port: 0, host: '127.0.0.1' });
    let closed = 0;
    app.server.on('connection', (socket: Socket) => {
      socket.once('close', () => {
        closed += 1;
      });
    });
    const list = get('/v1/events', `Authorization: Bearer ${service.rootKey}\r\nPantheon-Tenant: default\r\n`);
    for (let made = 0; made < 8; made += 1) await client(list, { server: app.server });
    // Each is a little larger than a quarter.
    await expect.poll(() => closed, { timeout: 10_000 }).toBe(5);
    for (const socket of clients) socket.destroy();
    await app.close();
  });
});

describe('bodies that are half sent', () => {
  const post = (path: string, length: number, credential = `Authorization: Bearer ${service.rootKey}\r\n`) =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\n${credential}Content-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;

  test('only a route whose body holds lists reads more than a few kilobytes', async () => {
    const read: string[] = [];
    for (const { method, url, id, bodyKind } of allOperations(service.auth, service.config)) {
      if (bodyKind === 'form') continue;
      const path = url.replaceAll(/:[a-z]+/gi, '1');
      const { status } = await service.call(method, path, { body: ' '.repeat(SMALL_BODY_BYTES_MAX + 1) });
      if (status !== 413 && method !== 'GET') read.push(id);
    }
    expect(read.sort()).toEqual(['createKey', 'createTenant', 'updateKey', 'updateTenant', 'verifyKey']);
  });

  test('the longest reason fits, every character of it escaped', async () => {
    const { apiKey } = await service.create();
    const answer = await service.call('POST', `/v1/keys/${apiKey.id}/revoke`, {
      body: `{"reason":"${'\\u00e9'.repeat(256)}"}`,
    });
    expect(answer.status).toBe(200);
  });

  test('those of all connections together are bounded', async () => {
    const most = BODIES_BYTES_MAX / BODY_BYTES_MAX;
    await manyClients(most + 20, post('/v1/keys', BODY_BYTES_MAX));
    await expect.poll(() => accepted.size, { timeout: 10_000 }).toBeLessThanOrEqual(most);
    expect(accepted.size).toBeGreaterThan(most - 20);
  }, 60_000);
});
