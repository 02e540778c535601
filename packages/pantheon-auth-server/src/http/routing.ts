/** Turns the rows of the route table into routes. */
import type { FastifyInstance, FastifySchema, FastifySchemaCompiler, RouteOptions } from 'fastify';
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
import { FORM_BYTES_MAX, HANDLER_TIMEOUT_MS } from '../settings/server-bounds.ts';
import { authenticated, stillAuthenticated } from './caller.ts';
import { toValidator } from './input.ts';
import { answerOAuthError } from './oauth-error.ts';
import type { Access, Operation } from './operation.ts';

/** A route for keys without a query of its own takes none: a misspelt parameter is told and not ignored. */
const NO_QUERY = z.strictObject({});

const NO_BODY = new PantheonError('invalid_request', { field: 'body', detail: 'Send a JSON object.' });

export function registerOperation(app: FastifyInstance, auth: PantheonAuth, operation: Operation, clock: Clock): void {
  const { method, url, access, answer, body, handle } = operation;
  const options = authenticateOptions(access, auth.issuer);
  const route: RouteOptions = {
    method,
    url,
    schema: schemaOf(operation),
    config: { bodyKind: operation.bodyKind ?? 'json' },
    ...(operation.bodyKind === 'form' && { bodyLimit: FORM_BYTES_MAX }),
    validatorCompiler: validators(operation),
    ...(options !== null && { onRequest: authenticated(auth, options, clock) }),
    ...(options !== null && body !== undefined && { preHandler: stillAuthenticated(auth, actionOf(access), clock) }),
    ...(operation.errors === 'oauth' && { errorHandler: answerOAuthError }),
    ...(operation.isHot !== true && { handlerTimeout: HANDLER_TIMEOUT_MS }),
    handler: async (request, reply) => {
      if (answer.status !== 200) reply.code(answer.status);
      // Verification, which is called most, has no tag and waits for nothing more.
      if (answer.tagged === undefined) return handle(request, reply);
      const body = await handle(request, reply);
      const etag = entityTagOf(body, answer.tagged);
      if (etag !== null) reply.header('etag', etag);
      return body;
    },
  };
  app.route(route);
}

/** A record tells its own tag. What has none is shown without. */
function entityTagOf(body: unknown, tagged: 'itself' | 'apiKey'): string | null {
  const { apiKey, etag } = body as { readonly apiKey?: { readonly etag: string }; readonly etag?: string };
  return (tagged === 'apiKey' ? apiKey?.etag : etag) ?? null;
}

/**
 * The edge asks for the permission, so that nobody who lacks it is listened to; the engine asks again. Of tokens only those
 * are taken that are meant for this API and for nothing else: whoever received one for another API must not manage with it.
 */
function authenticateOptions(access: Access, issuer: string): AuthenticateOptions | null {
  const common = { tenant: ANY_TENANT, audience: [issuer], audienceOnly: true } as const;
  if (access.kind === 'key') return { ...common, permissions: [ACTIONS[access.action]] };
  if (access.kind !== 'self') return null;
  return { ...common, environment: ANY_ENVIRONMENT, ...(access.proof && { accept: ['api_key'] }) };
}

/** What Fastify is to check. A public page ignores what it does not know: caches and monitors add parameters of their own. */
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
    // An id that cannot be one does not exist, like any other.
    if (httpPart === 'params' && operation.params) return toValidator(operation.params, 'not_found');
    if (httpPart === 'querystring') return toValidator(operation.query ?? NO_QUERY);
    if (httpPart !== 'body' || operation.body === undefined) return (value) => ({ value });
    if (!operation.bodyIsReadByEngine) return toValidator(operation.body);
    const isRequired = operation.bodyKind !== 'form' && !operation.body.isOptional();
    return (value) => (isRequired && value == null ? { error: NO_BODY } : { value });
  };
}
