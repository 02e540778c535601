import { once } from 'node:events';
import type { RequestListener, Server, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { CHUNK_BYTES, CHUNKS_BYTES_MAX, HEADERS_TIMEOUT_MS, TIMEOUTS_CHECK_MS } from '../settings/server-bounds.ts';
import { createBoundedServer } from './bounded-server.ts';

const CONNECTIONS_MAX = 4;

let server: Server | undefined;
const clients: Socket[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
  server?.close();
});

/** Clients connect from an address of their choice, as the server sees it. */
async function listening(handle: RequestListener) {
  const bounded = createBoundedServer(handle, { connectionsMax: CONNECTIONS_MAX });
  server = bounded;
  let nextAddress = '';
  let onArrived = (): void => {};
  bounded.prependListener('connection', (socket: Socket) => {
    Object.defineProperty(socket, 'remoteAddress', { value: nextAddress });
  });
  bounded.on('connection', () => onArrived());
  // Node refuses some by itself.
  bounded.on('drop', () => onArrived());
  bounded.listen(0, '127.0.0.1');
  await once(bounded, 'listening');
  const { port } = bounded.address() as AddressInfo;
  return async (address: string, text: string): Promise<Socket> => {
    nextAddress = address;
    const arrived = new Promise<void>((resolve) => {
      onArrived = resolve;
    });
    const socket = connect(port, '127.0.0.1');
    clients.push(socket);
    socket.on('error', () => {});
    await arrived;
    socket.write(text);
    return socket;
  };
}

/** What a client receives until its connection ends or an answer is complete. */
async function answerOf(socket: Socket): Promise<string> {
  const [answer] = await Promise.race([once(socket, 'data'), once(socket, 'close')]);
  return Buffer.isBuffer(answer) ? (answer.toString('latin1').split('\r\n')[0] ?? '') : 'closed';
}

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const OK = 'HTTP/1.1 200 OK';

test('a sender that holds every connection and lets it idle does not keep another sender out', async () => {
  const client = await listening((_request, response) => response.end('answer'));
  const idle: Socket[] = [];
  for (let made = 0; made < CONNECTIONS_MAX; made += 1) {
    const socket = await client('192.0.2.1', GET);
    expect(await answerOf(socket)).toBe(OK);
    idle.push(socket);
  }
  const [longest, ...others] = idle;
  const closed = longest && once(longest, 'close');
  const honest = await client('192.0.2.2', GET);
  expect(await answerOf(honest)).toBe(OK);
  await closed;
  // More of the same sender replace those of that sender.
  for (let made = 0; made < CONNECTIONS_MAX; made += 1) expect(await answerOf(await client('192.0.2.1', GET))).toBe(OK);
  expect(others.every(({ closed: isClosed }) => isClosed)).toBe(true);
  honest.write(GET);
  expect(await answerOf(honest)).toBe(OK);
});

test('a request that the service works on is not cut off: the new connection is closed', async () => {
  const working: ServerResponse[] = [];
  const client = await listening((_request, response) => void working.push(response));
  const busy: Socket[] = [];
  for (let made = 0; made < CONNECTIONS_MAX; made += 1) busy.push(await client('192.0.2.1', GET));
  await expect.poll(() => working.length).toBe(CONNECTIONS_MAX);
  expect(await answerOf(await client('192.0.2.2', GET))).toBe('closed');
  const answers = busy.map(answerOf);
  for (const response of working) response.end();
  expect(await Promise.all(answers)).toEqual(busy.map(() => OK));
});

test.each([
  ['send half of a body', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{', CONNECTIONS_MAX],
  ['do not read the answer', 'GET /large HTTP/1.1\r\nHost: x\r\n\r\n', CONNECTIONS_MAX],
  ['send half of the headers', 'GET / HTTP/1.1\r\nHost: x\r\n', 0],
  ['send nothing', '', 0],
])(
  'connections that %s do not keep another sender out',
  async (_name, text, requests) => {
    // More than the system takes for two sockets, so that it stays in the process.
    const large = Buffer.alloc(16 * 1_048_576);
    let started = 0;
    const client = await listening((request, response) => {
      started += 1;
      if (request.url === '/large') response.end(large);
      else request.resume().once('end', () => response.end('answer'));
    });
    for (let made = 0; made < CONNECTIONS_MAX; made += 1) (await client('192.0.2.1', text)).pause();
    await expect.poll(() => started).toBe(requests);
    // The server checks every few seconds which connections are stalled. Those without headers time out later than this.
    const timeout = HEADERS_TIMEOUT_MS - TIMEOUTS_CHECK_MS;
    await expect.poll(async () => answerOf(await client('192.0.2.2', GET)), { timeout }).toBe(OK);
  },
  20_000,
);

test('the chunks of bodies are bounded for all connections together, however small they are', async () => {
  const chunks = '1\r\na\r\n'.repeat(CHUNKS_BYTES_MAX / CHUNK_BYTES / 2);
  let closed = 0;
  const client = await listening((request) => void request.resume());
  for (let made = 0; made < CONNECTIONS_MAX; made += 1) {
    const socket = await client(
      '192.0.2.1',
      `POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`,
    );
    socket.resume().once('close', () => {
      closed += 1;
    });
  }
  // Two fill the room, because some chunks of each are not counted.
  await expect.poll(() => closed, { timeout: 10_000 }).toBe(CONNECTIONS_MAX - 2);
}, 20_000);

test('the chunks of a request that was answered are no longer counted', async () => {
  const chunks = '1\r\na\r\n'.repeat(CHUNKS_BYTES_MAX / CHUNK_BYTES / 2);
  const client = await listening(
    (request, response) => void request.resume().once('end', () => response.end('answer')),
  );
  const socket = await client('192.0.2.1', '');
  for (let sent = 0; sent < 4; sent += 1) {
    socket.write(`POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`);
    expect(await answerOf(socket)).toBe(OK);
  }
}, 20_000);

test('nor when the next request has been read by then', async () => {
  const chunks = 5_000;
  const requests = 2 * (CHUNKS_BYTES_MAX / CHUNK_BYTES / chunks) + 2;
  const body = `${'1\r\na\r\n'.repeat(chunks)}0\r\n\r\n`;
  const request = `POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${body}`;
  const answered = Promise.withResolvers<void>();
  let answers = 0;
  const client = await listening((received, response) => {
    received.resume().once('end', async () => {
      // The connection always has one that is not answered.
      socket.write(request);
      await pause(20);
      response.end('answer');
      answers += 1;
      if (answers >= requests) answered.resolve();
    });
  });
  const socket = await client('192.0.2.1', '');
  socket.resume().once('close', () => answered.reject(new Error('The connection was closed.')));
  socket.write(request);
  await answered.promise;
}, 20_000);
