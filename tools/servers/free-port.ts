/** Finds a port of the loopback address that nobody uses, and that stays free while its server is down. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Below the range from which systems take ports for outgoing connections (32768 on Linux, 49152 elsewhere): a server that
 * is down for a moment finds its port free when it comes back. The bus of a Redis Cluster, at port + 10000, is below too.
 */
const PORT_MIN = 15_000;
const PORT_MAX = 22_700;
const TRIES_MAX = 100;

export const LOOPBACK = '127.0.0.1';

/** Distance from a Redis node's port to its cluster bus, set by Redis. */
const CLUSTER_BUS_OFFSET = 10_000;

/** Another process may take the port before it is used: who starts a server on it tries again with another. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const port = randomInt(PORT_MIN, PORT_MAX);
    if ((await isFree(port)) && (await isFree(port + CLUSTER_BUS_OFFSET))) return port;
  }
  throw new Error(`no free port found on ${LOOPBACK} in ${TRIES_MAX} tries from ${PORT_MIN} to ${PORT_MAX}`);
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = createServer();
  probe.once('error', () => resolve(false));
  probe.listen(port, LOOPBACK, () => probe.close(() => resolve(true)));
  return promise;
}
