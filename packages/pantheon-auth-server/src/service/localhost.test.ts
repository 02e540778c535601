import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { listenBeside, localhostAddresses } from './localhost.ts';

test('a second address is served by the same server, and one that this machine lacks is left out', async () => {
  const server = createServer((request, response) => response.end(request.socket.localAddress));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const close = await listenBeside(server, ['127.0.0.1', '127.0.0.2', '203.0.113.1']);
  const headers = { connection: 'close' };
  const answers = await Promise.all(
    ['127.0.0.1', '127.0.0.2'].map(async (host) => (await fetch(`http://${host}:${port}/`, { headers })).text()),
  );
  expect(answers).toEqual(['127.0.0.1', '127.0.0.2']);
  close();
  await expect(fetch(`http://127.0.0.2:${port}/`)).rejects.toThrow();
  server.close();
});

test('only localhost has a second address', async () => {
  expect(await localhostAddresses('LOCALHOST')).toContain('127.0.0.1');
  expect(await localhostAddresses('127.0.0.1')).toEqual([]);
});
