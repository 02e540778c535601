/** Registers the routes of the route table. */
import type {
  FastifyInstance,
  FastifySchema,
  FastifySchemaCompiler,
  preParsingHookHandler,
  RouteOptions,
} from 'fastify';
import {
  ACTIONS,
  type Action,
  ANY_ENVIRONMENT,
  ANY_TENANT,
  type AuthenticateOptions,
  type Clock,
  type PantheonAuth,
  PantheonError,
} from 'pantheon-auth';
import { z } from 'zod';
import { BODY_BYTES_MAX, FORM_BYTES_MAX, HANDLER_TIMEOUT_MS, SMALL_BODY_BYTES_MAX } from '../settings/server-bounds.ts';
import { authenticated, type BodyBound, stillAuthenticated } from './caller.ts';
import { toValidator } from './input.ts';
import type { boundBodies } from './memory-bounds.ts';
import { answerOAuthError } from './oauth-error.ts';
import type { Access, Operation } from './operation.ts';

/** For authenticated routes without query parameters: a misspelt parameter is an error and is not ignored. */
const NO_QUERY = z.strictObject({});

const NO_BODY = new PantheonError('invalid_request', { field: 'body', detail: 'Send a JSON object.' });

export interface RoutingContext {
  readonly auth: PantheonAuth;
  readonly clock: Clock;
  readonly boundBody: ReturnType<typeof boundBodies>;
}

export function registerOperation(app: FastifyInstance, operation: Operation, context: RoutingContext): void {
  const { method, url, access, answer, handle } = operation;
  const { auth, clock } = context;
  const bodyLimit = bodyBytesMaxOf(operation);
  const boundBody = context.boundBody(bodyLimit);
  const options = authenticateOptions(access, auth.issuer);
  const route: RouteOptions = {
    method,
    url,
    schema: schemaOf(operation),
    config: { bodyKind: operation.bodyKind ?? 'json' },
    bodyLimit,
    validatorCompiler: validators(operation),
    ...(options !== null && {
      onRequest: authenticated(auth, options, clock, boundBody),
      preHandler: stillAuthenticated(auth, actionOf(access), clock),
    }),
    ...(options === null && boundBody !== null && { preParsing: bounded(boundBody) }),
    ...(operation.errors === 'oauth' && { errorHandler: answerOAuthError }),
    ...(operation.hasNoTimeout !== true && { handlerTimeout: HANDLER_TIMEOUT_MS }),
    handler: async (request, reply) => {
      if (answer.status !== 200) reply.code(answer.status);
      // The verification route has no ETag, so it needs no further step.
      if (answer.tagged === undefined) return handle(request, reply);
      const body = await handle(request, reply);
      const etag = entityTagOf(body, answer.tagged);
      if (etag !== null) reply.header('etag', etag);
      return body;
    },
  };
  app.route(route);
}

/** For routes without a key. With one, the body is bounded as soon as the tenant of the key is known. */
function bounded(boundBody: BodyBound): preParsingHookHandler {
  return (request, reply, payload, done) => {
    boundBody(request, reply.raw);
    done(null, payload);
  };
}

/** Also of a route without a body: Fastify reads what is sent to it. */
function bodyBytesMaxOf({ bodyKind, hasLists }: Operation): number {
  if (bodyKind === 'form') return FORM_BYTES_MAX;
  return hasLists === true ? BODY_BYTES_MAX : SMALL_BODY_BYTES_MAX;
}

/** The `etag` member of the record; null when there is none. */
function entityTagOf(body: unknown, tagged: 'itself' | 'apiKey'): string | null {
  const { apiKey, etag } = body as { readonly apiKey?: { readonly etag: string }; readonly etag?: string };
  return (tagged === 'apiKey' ? apiKey?.etag : etag) ?? null;
}

/**
 * The permission is checked here, before the body is read, and again by the engine. A token is accepted only if this
 * service is its only audience: another API that receives a token must not be able to manage keys with it.
 */
function authenticateOptions(access: Access, issuer: string): AuthenticateOptions | null {
  const common = { tenant: ANY_TENANT, audience: [issuer], audienceOnly: true } as const;
  if (access.kind === 'key') return { ...common, permissions: [ACTIONS[access.action]] };
  if (access.kind !== 'self') return null;
  return { ...common, environment: ANY_ENVIRONMENT, ...(access.proof && { accept: ['api_key'] }) };
}

/**
 * The schemas for Fastify. Public routes ignore unknown query parameters, because caches and monitors add their own.
 */
function schemaOf({ access, params, query, body }: Operation): FastifySchema {
  return {
    ...(params !== undefined && { params }),
    ...(access.kind !== 'public' && { querystring: query ?? NO_QUERY }),
    ...(body !== undefined && { body }),
  };
}

function actionOf(access: Access): Action | null {
  return access.kind === 'key' ? access.action : null;
}

function validators(operation: Operation): FastifySchemaCompiler<unknown> {
  return ({ httpPart }) => {
    // A malformed id is answered like an unknown one.
    if (httpPart === 'params' && operation.params) return toValidator(operation.params, 'not_found');
    if (httpPart === 'querystring') return toValidator(operation.query ?? NO_QUERY);
    if (httpPart !== 'body' || operation.body === undefined) return (value) => ({ value });
    if (!operation.bodyIsReadByEngine) return toValidator(operation.body);
    const isRequired = operation.bodyKind !== 'form' && !operation.body.isOptional();
    return (value) => (isRequired && value == null ? { error: NO_BODY } : { value });
  };
}
