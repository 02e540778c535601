/**
 * Builds the HTTP application: bounds, bodies, routes, errors, log. It does not listen: `serve.ts` does, and tests and
 * the local command line put requests straight to it.
 */
import { randomUUID } from 'node:crypto';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyInstance,
  LogController,
  type RawServerDefault,
} from 'fastify';
import { type Clock, type PantheonAuth, PantheonError, systemClock, TrustedProxies } from 'pantheon-auth';
import { eventOperations } from './api/events/events.ts';
import { keyStateOperations } from './api/keys/key-state.ts';
import { keyVersionOperations } from './api/keys/key-versions.ts';
import { keyOperations } from './api/keys/keys.ts';
import { verifyOperations } from './api/keys/verify.ts';
import { publicOperations } from './api/public/public.ts';
import { selfOperations } from './api/self/self.ts';
import { tenantOperations } from './api/tenants/tenants.ts';
import { usageOperations } from './api/usage/usage.ts';
import { parseQuery, readBodies } from './http/bodies.ts';
import { answerExpectations, brokenRequestHandler, noteEarlyAnswers } from './http/broken-request.ts';
import { noteAddress, senderOf } from './http/caller.ts';
import { holdsCredential, keysIn } from './http/exposed-credentials.ts';
import type { Logger } from './http/logging.ts';
import type { Operation } from './http/operation.ts';
import { answerError } from './http/problem.ts';
import { serveOpenApi, serveReference } from './http/reference-page.ts';
import { type Answered, logRequests } from './http/request-log.ts';
import { registerOperation } from './http/routing.ts';
import { securityHeaders } from './http/security-headers.ts';
import { assertSingleHeaders } from './http/single-headers.ts';
import { answerUnmatched } from './http/unmatched.ts';
import { tokenOperations } from './oauth/token.ts';
import type { Config } from './settings/config.ts';
import {
  BODY_BYTES_MAX,
  CONNECTIONS_MAX,
  HEADER_BYTES_MAX,
  HEADERS_TIMEOUT_MS,
  KEEP_ALIVE_TIMEOUT_MS,
  PATH_PARAMETER_LENGTH_MAX,
  REQUEST_TIMEOUT_MS,
  TIMEOUTS_CHECK_MS,
} from './settings/server-bounds.ts';

export interface AppParts {
  readonly auth: PantheonAuth;
  readonly config: Config;
  readonly logger: Logger;
  /** For metrics: told of every request that was answered. */
  readonly onAnswered?: (answered: Answered) => void;
  /** For tests. */
  readonly clock?: Clock;
}

/** Every route that the service has, besides `/docs` and `/openapi.json`. */
export function allOperations(auth: PantheonAuth, config: Config, clock: Clock = systemClock): readonly Operation[] {
  return [
    ...publicOperations(auth, config),
    ...tokenOperations(auth),
    ...verifyOperations(auth),
    ...keyOperations(auth, config),
    ...keyStateOperations(auth),
    ...keyVersionOperations(auth),
    ...usageOperations(auth, clock),
    ...selfOperations(auth),
    ...tenantOperations(auth),
    ...eventOperations(auth),
  ];
}

export async function createApp(parts: AppParts): Promise<FastifyInstance> {
  const { auth, config, logger } = parts;
  const app: FastifyInstance = Fastify(serverOptions(config, logger));
  // The bytes of all headers are bounded. Node would drop headers beyond a number, and with them a second credential.
  app.server.maxHeadersCount = 0;
  app.server.maxConnections = CONNECTIONS_MAX;
  answerExpectations(app.server, config);
  noteEarlyAnswers(app);
  app.decorateRequest('acting', null);
  app.decorateRequest('outcome', null);
  app.decorateRequest('clientAddress', null);

  logRequests(app, logger, parts.onAnswered);
  refuseEarly(app, auth, config);
  readBodies(app);
  app.setErrorHandler(answerError);
  const clock = parts.clock ?? systemClock;
  const operations = allOperations(auth, config, clock);
  for (const operation of operations) registerOperation(app, auth, operation, clock);
  const pages = config.docs ? [...serveOpenApi(app, operations, config), ...serveReference(app, config)] : [];
  answerUnmatched(app, [...operations, ...pages]);
  await app.ready();
  return app;
}

function serverOptions(config: Config, logger: Logger): FastifyHttpOptions<RawServerDefault> {
  return {
    loggerInstance: logger satisfies FastifyBaseLogger,
    // Lines are written in `request-log.ts`, with the request id in them: no logger per request.
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent) => parent,
    genReqId: () => randomUUID(),
    // What callers send as a request id would be theirs to choose, and is in our log.
    requestIdHeader: false,
    // Its own reading of `X-Forwarded-For` compares hops with their ports; ours is in `caller.ts`.
    trustProxy: false,
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    // Ours is a problem document, sent by the first hook.
    return503OnClosing: false,
    http: {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUTS_CHECK_MS,
      // Node's own refusal has no body: ours is in `single-headers.ts`.
      requireHostHeader: false,
    },
    routerOptions: {
      maxParamLength: PATH_PARAMETER_LENGTH_MAX,
      querystringParser: parseQuery,
    },
    frameworkErrors: (error, request, reply) => {
      reply.headers(securityHeaders(config));
      answerError(error, request, reply);
    },
    clientErrorHandler: brokenRequestHandler(config),
  };
}

/** What is refused on every address, before anything is read. */
function refuseEarly(app: FastifyInstance, auth: PantheonAuth, config: Config): void {
  const headers = securityHeaders(config);
  const proxies = new TrustedProxies(config.trustedProxies);
  let isClosing = false;
  app.addHook('preClose', async () => {
    isClosing = true;
  });
  // Told with the last answer, a client does not send its next request into a connection that is being closed.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (isClosing) reply.header('connection', 'close');
    done(null, payload);
  });
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(headers);
    noteAddress(request, proxies);
    if (isClosing) throw new PantheonError('shutting_down', { retryAfterSeconds: 1 });
    assertSingleHeaders(request.raw);
    // Addresses are written down everywhere. What was sent in one is no longer a secret.
    const url = request.raw.url ?? '';
    if (!holdsCredential(url)) return;
    const by = { actor: { ...NOBODY, ...senderOf(request) }, requestId: request.id, reason: null };
    try {
      for (const key of keysIn(url)) await auth.reportExposed(key, by);
    } catch (error) {
      // The answer is the same, or the client would send the key in the URL again.
      request.log.error({ err: error, reqId: request.id }, 'a key was sent in a URL, and the log could not be told');
    }
    throw new PantheonError('credential_in_url');
  });
}

const NOBODY = { keyId: null, userId: null } as const;
