/**
 * Builds the HTTP application: limits, body parsers, routes, errors, log. It does not listen: `serve.ts` does. Tests
 * and the local command line inject requests into it.
 */
import { randomUUID } from 'node:crypto';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyInstance,
  LogController,
  type RawServerDefault,
} from 'fastify';
import {
  type Clock,
  holdsCredential,
  keyStringsIn,
  type PantheonAuth,
  PantheonError,
  systemClock,
  TrustedProxies,
} from 'pantheon-auth';
import { eventOperations } from './api/events/events.ts';
import { keyStateOperations } from './api/keys/key-state.ts';
import { keyVersionOperations } from './api/keys/key-versions.ts';
import { keyOperations } from './api/keys/keys.ts';
import { verifyOperations } from './api/keys/verify.ts';
import { publicOperations } from './api/public/public.ts';
import { selfOperations } from './api/self/self.ts';
import { signingKeyOperations } from './api/signing-keys/signing-keys.ts';
import { tenantOperations } from './api/tenants/tenants.ts';
import { usageOperations } from './api/usage/usage.ts';
import { parseQuery, readBodies } from './http/bodies.ts';
import { createBoundedServer } from './http/bounded-server.ts';
import { answerExpectation, brokenRequestHandler, noteEarlyAnswers } from './http/broken-request.ts';
import { noteAddress, senderOf } from './http/caller.ts';
import type { Logger } from './http/logging.ts';
import { boundAnswers, boundBodies } from './http/memory-bounds.ts';
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
import { CONNECTIONS_MAX, PATH_PARAMETER_LENGTH_MAX, SMALL_BODY_BYTES_MAX } from './settings/server-bounds.ts';

export interface AppParts {
  readonly auth: PantheonAuth;
  readonly config: Config;
  readonly logger: Logger;
  /** Called for every answered request, for metrics. */
  readonly onAnswered?: (answered: Answered) => void;
  /** For tests. */
  readonly clock?: Clock;
}

/** All routes of the service except `/docs` and `/openapi.json`. */
export function allOperations(auth: PantheonAuth, config: Config, clock: Clock = systemClock): readonly Operation[] {
  return [
    ...publicOperations(auth, config),
    ...tokenOperations(auth),
    ...verifyOperations(auth, clock),
    ...keyOperations(auth, config),
    ...keyStateOperations(auth),
    ...keyVersionOperations(auth),
    ...usageOperations(auth, clock),
    ...selfOperations(auth),
    ...tenantOperations(auth),
    ...signingKeyOperations(auth),
    ...eventOperations(auth),
  ];
}

export async function createApp(parts: AppParts): Promise<FastifyInstance> {
  const { auth, config, logger } = parts;
  const app: FastifyInstance = Fastify(serverOptions(config, logger));
  noteEarlyAnswers(app);
  app.decorateRequest('acting', null);
  app.decorateRequest('outcome', null);
  app.decorateRequest('clientAddress', null);

  logRequests(app, logger, parts.onAnswered);
  refuseEarly(app, auth, config);
  boundAnswers(app);
  readBodies(app);
  app.setErrorHandler(answerError);
  const clock = parts.clock ?? systemClock;
  const operations = allOperations(auth, config, clock);
  const context = { auth, clock, boundBody: boundBodies() };
  for (const operation of operations) registerOperation(app, operation, context);
  const pages = config.docs ? [...serveOpenApi(app, operations, config), ...serveReference(app, config)] : [];
  answerUnmatched(app, [...operations, ...pages]);
  await app.ready();
  return app;
}

function serverOptions(config: Config, logger: Logger): FastifyHttpOptions<RawServerDefault> {
  return {
    loggerInstance: logger satisfies FastifyBaseLogger,
    // `request-log.ts` writes the lines, with the request id, so Fastify creates no logger per request.
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent) => parent,
    genReqId: () => randomUUID(),
    // A request id sent by the caller is not used, because it would be written to the log.
    requestIdHeader: false,
    // Fastify's reading of `X-Forwarded-For` compares addresses including their ports; `caller.ts` reads it instead.
    trustProxy: false,
    bodyLimit: SMALL_BODY_BYTES_MAX,
    serverFactory: (handle) =>
      createBoundedServer(handle, { connectionsMax: CONNECTIONS_MAX, onExpectation: answerExpectation(config) }),
    // The first hook answers with a problem document instead.
    return503OnClosing: false,
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

/** Checks for every path, made before the body is read. */
function refuseEarly(app: FastifyInstance, auth: PantheonAuth, config: Config): void {
  const headers = securityHeaders(config);
  const proxies = new TrustedProxies(config.trustedProxies);
  let isClosing = false;
  app.addHook('preClose', async () => {
    isClosing = true;
  });
  // While stopping, each answer closes its connection, so that the client does not send another request on it.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (isClosing) reply.header('connection', 'close');
    done(null, payload);
  });
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(headers);
    noteAddress(request, proxies);
    if (isClosing) throw new PantheonError('shutting_down', { retryAfterSeconds: 1 });
    assertSingleHeaders(request.raw);
    // URLs are logged by many systems, so a credential in one is no longer secret.
    const url = request.raw.url ?? '';
    if (!holdsCredential(url)) return;
    const by = { actor: { ...NOBODY, ...senderOf(request) }, requestId: request.id, reason: null };
    try {
      for (const key of keyStringsIn(url)) await auth.reportExposed(key, by);
    } catch (error) {
      // The answer is the same when the event cannot be written: the client must stop sending the key in the URL.
      request.log.error(
        { err: error, reqId: request.id },
        'a key was sent in a URL, and the event for it could not be written',
      );
    }
    throw new PantheonError('credential_in_url');
  });
}

const NOBODY = { keyId: null, userId: null } as const;
