/**
 * Runs the service: opens the engine, listens, and stops without losing data: requests in progress are finished and
 * usage counts stored. A second signal ends the process at once.
 */

import { once } from 'node:events';
import { writeSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { hasCode, PantheonError } from 'pantheon-auth';
import { createApp } from '../app.ts';
import { createLogger, type Logger } from '../http/logging.ts';
import type { Config } from '../settings/config.ts';
import { SHUTDOWN_MS } from '../settings/server-bounds.ts';
import { listenBeside, localhostAddresses } from './localhost.ts';
import { Metrics } from './metrics.ts';
import { openService } from './open.ts';
import { holdsRootKey, printWelcome, type Welcomed } from './welcome.ts';

/** A running service. */
export interface Running extends Welcomed {
  readonly app: FastifyInstance;
  /** Null: there are no metrics. */
  readonly metricsPort: number | null;
  /** Finishes requests in progress, stores usage counts, and closes. Idempotent. */
  close(): Promise<void>;
  /** Settles when the service is closed, by a call or a signal. */
  readonly closed: Promise<void>;
}

export interface ServeOptions {
  readonly logger?: Logger;
  /** Unknown variables with the prefix of settings, to be logged once. */
  readonly unknown?: readonly string[];
  /** Where the welcome text is written. Default: standard output. */
  readonly write?: (text: string) => void;
  /** Whether signals stop it. Default true. */
  readonly handleSignals?: boolean;
}

/** What a shell reports for a process that SIGINT ended: 128 + 2. */
const EXIT_SECOND_SIGNAL = 130;
const STDERR = 2;
const EXIT_FAULT = 1;
/** How often idle connections are closed while the service stops. */
const SWEEP_MS = 50;

/** @throws PantheonError startup codes, `port_in_use` among them. */
export async function serve(config: Config, options: ServeOptions = {}): Promise<Running> {
  const logger = options.logger ?? createLogger(config.logLevel);
  const { unknown = [], handleSignals = true } = options;
  if (config.isInsecure)
    logger.warn({ publicUrl: config.publicUrl }, 'ALLOW_INSECURE_HTTP: keys and tokens travel unencrypted');
  if (unknown.length > 0) logger.warn({ names: unknown }, 'unknown settings are ignored');

  // What has been opened; it is closed in reverse order.
  const opened: (() => Promise<unknown>)[] = [];
  const closeAll = async (): Promise<void> => {
    for (let close = opened.pop(); close !== undefined; close = opened.pop()) await close();
  };
  try {
    const service = await openService(config, logger);
    opened.push(() => service.close());
    const { port, host, metricsPort, metricsHost } = config;
    const metrics = metricsPort === null ? null : new Metrics(service.auth);
    const onAnswered = metrics === null ? {} : { onAnswered: metrics.answered };
    const app = await createApp({ auth: service.auth, config, logger, ...onAnswered });
    const sockets = socketsOf(app.server);
    opened.push(() => closeWithin(app, sockets));
    const metricsServer = metrics?.server((error) => logger.error({ err: error }, 'metrics cannot be served')) ?? null;
    if (metricsServer !== null && metricsPort !== null) {
      await listening('METRICS_', metricsPort, metricsHost, () => listen(metricsServer, metricsPort, metricsHost));
      opened.push(async () => metricsServer.close().closeAllConnections());
    }
    // Last, so that the service is ready when it accepts connections.
    await listening('', port, host, () => app.listen({ port, host }));
    const closeBeside = await listenBeside(app.server, await localhostAddresses(host));
    opened.push(async () => closeBeside());

    const { closed, close } = closeOnce(closeAll);
    if (handleSignals) stopOnSignals(close, logger);
    logger.info({ host, port: portOf(app.server), publicUrl: config.publicUrl }, 'serving');
    const isRootKeyHere = await holdsRootKey(service.auth, config.rootKeyFile);
    const welcomed = {
      rootKey: service.rootKey,
      isRootKeyHere,
      localUrl: `http://${urlHost(host)}:${portOf(app.server)}`,
    };
    printWelcome(config, welcomed, options.write);
    return {
      app,
      ...welcomed,
      metricsPort: metricsServer === null ? null : portOf(metricsServer),
      close,
      closed,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  server.listen(port, host);
  await once(server, 'listening');
}

/** `prefix`: of the names of the two settings (`HOST`, `PORT`), so that an error names the right one. */
async function listening(prefix: string, port: number, host: string, start: () => Promise<unknown>): Promise<void> {
  try {
    await start();
  } catch (cause) {
    const isOfHost = OF_THE_HOST.some((code) => hasCode(cause, code));
    const where = `${host}:${port}`;
    const field = `${prefix}${isOfHost ? 'HOST' : 'PORT'}`;
    if (hasCode(cause, 'EADDRINUSE'))
      throw new PantheonError('port_in_use', { field, detail: `Another process listens on ${where}.`, cause });
    const why = isOfHost ? 'This machine has no such address' : 'Nothing can listen there';
    throw new PantheonError('invalid_setting', { field, detail: `${why}: ${where}.`, cause });
  }
}

const OF_THE_HOST = ['EADDRNOTAVAIL', 'EINVAL', 'ENOTFOUND', 'EAI_AGAIN', 'EAFNOSUPPORT'] as const;

/**
 * Finishes requests in progress within a time limit. Their answers close the connection (`app.ts`); a connection whose
 * answer had already begun is closed once it is idle.
 */
async function closeWithin(app: FastifyInstance, sockets: ReadonlySet<Socket>): Promise<void> {
  const closeIdle = app.server.closeIdleConnections.bind(app.server);
  // Replaced, because Node takes a connection for idle before its answer has been sent, and would cut the answer off.
  app.server.closeIdleConnections = () => {
    if (![...sockets].some((socket) => socket.writableLength > 0)) closeIdle();
  };
  const sweep = setInterval(() => {
    app.server.closeIdleConnections();
    // Node takes a connection on which nothing was ever received for busy.
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
  }, SWEEP_MS);
  const cutOff = setTimeout(() => app.server.closeAllConnections(), SHUTDOWN_MS);
  try {
    await app.close();
    // The server does not wait for connections that it was handed (`localhost.ts`).
    await Promise.all([...sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve))));
  } finally {
    clearInterval(sweep);
    clearTimeout(cutOff);
  }
}

function socketsOf(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return sockets;
}

function closeOnce(closeAll: () => Promise<void>): Pick<Running, 'close' | 'closed'> {
  const { promise: closed, resolve, reject } = Promise.withResolvers<void>();
  // The error is logged, so a rejection that nobody awaits must not end the process.
  closed.catch(() => {});
  let isClosing = false;
  return {
    closed,
    close: () => {
      if (!isClosing) closeAll().then(resolve, reject);
      isClosing = true;
      return closed;
    },
  };
}

function stopOnSignals(close: () => Promise<void>, logger: Logger): void {
  let signals = 0;
  const stop = (signal: NodeJS.Signals): void => {
    signals += 1;
    // A second signal means: do not wait.
    if (signals > 1) process.exit(EXIT_SECOND_SIGNAL);
    logger.info({ signal }, 'stopping');
    close().then(
      () => logger.info({}, 'stopped'),
      (error: unknown) => {
        logger.error({ err: error }, 'the service did not stop cleanly');
        process.exitCode = EXIT_FAULT;
      },
    );
  };
  // The process ends after an uncaught exception and relies on being restarted.
  process.on('uncaughtException', (error) => {
    try {
      // Written directly, because the log may be what failed, and without the message, which may contain request data.
      writeSync(STDERR, `the process cannot go on: ${error.name}\n`);
      logger.error({ err: error }, 'the process cannot go on');
    } finally {
      process.exit(EXIT_FAULT);
    }
  });
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

/** The host as in a URL. */
function urlHost(host: string): string {
  if (host === '127.0.0.1' || host === '::1' || host === '0.0.0.0' || host === '::') return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}
