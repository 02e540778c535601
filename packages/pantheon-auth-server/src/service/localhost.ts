/**
 * Listens on the second address of `localhost`. A name is resolved to one address when a server listens, and a client
 * may try the other one, `127.0.0.1` or `::1`.
 */
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';

/** All addresses of `localhost`; of any other host none: it is listened on as it is written. */
export async function localhostAddresses(host: string): Promise<readonly string[]> {
  if (!/^localhost$/i.test(host)) return [];
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.map(({ address }) => address);
}

/**
 * Hands connections to these addresses to `server`, which listens, so that its bounds hold for them too. An address
 * that this machine lacks is left out. Returns a function that accepts no more.
 */
export async function listenBeside(server: Server, addresses: readonly string[]): Promise<() => void> {
  const { address: own, port } = server.address() as AddressInfo;
  const closers: (() => void)[] = [];
  for (const host of new Set(addresses)) {
    if (host === own) continue;
    // As an HTTP server accepts them.
    const beside = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => server.emit('connection', socket));
    beside.maxConnections = server.maxConnections;
    beside.listen(port, host);
    try {
      await once(beside, 'listening');
      closers.push(() => beside.close());
    } catch {
      // The other address is listened on.
    }
  }
  return () => {
    for (const close of closers) close();
  };
}
