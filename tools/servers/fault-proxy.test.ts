/** The proxy does to a connection what it is told, and nothing else. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { LOOPBACK } from './free-port.ts';
import { until } from './server-process.ts';

const PATIENCE_MS = 20_000;

/** What `afterEach` closes, the last first. */
const opened: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

/** A server that says back what it hears, after its name. */
async function startEcho(name: string): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
    socket.write(name);
    socket.pipe(socket);
  });
  server.listen(0, LOOPBACK);
  await once(server, 'listening');
  opened.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function startProxy(name = '>'): Promise<FaultProxy> {
  const proxy = await startFaultProxy({ host: LOOPBACK, port: await startEcho(name) });
  opened.push(() => proxy[Symbol.asyncDispose]());
  return proxy;
}

/** One client connection and what it has heard. */
class Caller {
  heard: Buffer = Buffer.alloc(0);
  readonly socket: Socket;
  ended: string | null = null;

  constructor(port: number) {
    this.socket = connect(port, LOOPBACK);
    opened.push(() => this.socket.destroy());
    this.socket.on('data', (bytes: Buffer) => {
      this.heard = Buffer.concat([this.heard, bytes]);
    });
    this.socket.on('end', () => {
      this.ended ??= 'end';
    });
    this.socket.on('error', (error) => {
      this.ended ??= 'code' in error ? String(error.code) : error.message;
    });
  }

  async hears(text: string): Promise<void> {
    await until(() => this.heard.toString() === text, PATIENCE_MS);
    expect(this.heard.toString()).toBe(text);
  }

  async ends(how: string): Promise<void> {
    await until(() => this.ended !== null, PATIENCE_MS);
    expect(this.ended).toBe(how);
  }
}

/** A connection on which both ends have been heard. */
async function call(proxy: FaultProxy, greeting = '>'): Promise<Caller> {
  const caller = new Caller(proxy.port);
  await caller.hears(greeting);
  return caller;
}

describe('the fault proxy', () => {
  test('passes every byte and the end of a connection, also more than it keeps in memory', async () => {
    const proxy = await startProxy();
    const caller = await call(proxy);
    const sent = randomBytes(5_000_000);
    caller.socket.end(sent);
    await caller.ends('end');
    expect(caller.heard.subarray(1).equals(sent)).toBe(true);
    expect(await until(() => proxy.connections.length === 0, PATIENCE_MS)).toBe(true);
  });

  test('rewrites a URL to its own address', async () => {
    const proxy = await startProxy();
    expect(proxy.rewrite('postgres://user:p%40ss@db.example:5432/name?sslmode=disable')).toBe(
      `postgres://user:p%40ss@127.0.0.1:${proxy.port}/name?sslmode=disable`,
    );
  });

  test('resets connections and accepts new ones', async () => {
    const proxy = await startProxy();
    const caller = await call(proxy);
    proxy.cut();
    await caller.ends('ECONNRESET');
    await call(proxy);
  });

  test('refuses new connections and keeps those that exist', async () => {
    const proxy = await startProxy();
    const before = await call(proxy);
    proxy.refuse();
    await new Caller(proxy.port).ends('ECONNREFUSED');
    before.socket.write('still here');
    await before.hears('>still here');
    await proxy.accept();
    await call(proxy);
  });

  test('resets a client if the server does not listen', async () => {
    const proxy = await startProxy();
    const gone = await startProxy();
    proxy.retarget(gone.port);
    gone.refuse();
    await new Caller(proxy.port).ends('ECONNRESET');
  });

  test('connects new clients to another server', async () => {
    const proxy = await startProxy('old');
    const before = await call(proxy, 'old');
    proxy.retarget(await startEcho('new'));
    await call(proxy, 'new');
    before.socket.write('!');
    await before.hears('old!');
  });

  test('holds existing and new connections and loses nothing, not even their end', async () => {
    const proxy = await startProxy();
    const before = await call(proxy);
    proxy.hold();
    before.socket.end('kept');
    const during = new Caller(proxy.port);
    await until(() => proxy.connections.every(({ bytesToClient }) => bytesToClient > 0), PATIENCE_MS);
    expect([before.heard.toString(), during.heard.toString()]).toEqual(['>', '']);
    proxy.release();
    await before.hears('>kept');
    await before.ends('end');
    await during.hears('>');
  });

  test('holds one direction only: the server gets the request, the client no answer', async () => {
    const proxy = await startProxy();
    const caller = await call(proxy);
    proxy.hold('to-client');
    caller.socket.write('request');
    expect(await until(() => proxy.connections[0]?.bytesToClient === '>request'.length, PATIENCE_MS)).toBe(true);
    expect(caller.heard.toString()).toBe('>');
    proxy.release();
    await caller.hears('>request');
  });

  test('delays later bytes, and keeps their order', async () => {
    const proxy = await startProxy();
    const caller = await call(proxy);
    const delayMs = 50;
    proxy.delay(delayMs);
    const startedMs = performance.now();
    caller.socket.write('late');
    await until(() => (proxy.connections[0]?.bytesToServer ?? 0) > 0, PATIENCE_MS);
    proxy.delay(0);
    caller.socket.write(', later');
    await caller.hears('>late, later');
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(delayMs - 1);
  });

  test('holds one chosen connection of several', async () => {
    const proxy = await startProxy();
    const callers = [await call(proxy), await call(proxy), await call(proxy)];
    const held = [proxy.holdOne(1), proxy.holdOne(({ index }) => index === 2)];
    for (const { socket } of callers) socket.write('!');
    await callers[0]?.hears('>!');
    expect(callers.slice(1).map(({ heard }) => heard.toString())).toEqual(['>', '>']);
    proxy.release();
    for (const one of held) one.release();
    await Promise.all(callers.map((caller) => caller.hears('>!')));
    expect(() => proxy.holdOne(7)).toThrow('none of 3');
  });

  test('holds the connection that is idle for longest if none is chosen', async () => {
    const proxy = await startProxy();
    const [idle, busy] = [await call(proxy), await call(proxy)];
    busy.socket.write('!');
    await busy.hears('>!');
    const held = proxy.holdOne();
    expect(held.connection.index).toBe(0);
    idle.socket.write('?');
    busy.socket.write('!');
    await busy.hears('>!!');
    held.release();
    await idle.hears('>?');
  });

  test('holds the answer to a request that contains a text', async () => {
    const proxy = await startProxy();
    const [a, b] = [await call(proxy), await call(proxy)];
    const poll = proxy.holdNextAnswer((bytes) => bytes.includes('poll'));
    a.socket.write('other');
    await a.hears('>other');
    b.socket.write('poll');
    const { connection } = await poll.caught;
    expect(connection.index).toBe(1);
    a.socket.write(' poll');
    await a.hears('>other poll');
    expect(await until(() => proxy.connections[1]?.bytesToClient === '>poll'.length, PATIENCE_MS)).toBe(true);
    expect(b.heard.toString()).toBe('>');
    poll.release();
    await b.hears('>poll');
  });
});
