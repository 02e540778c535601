/** Turns the rows of the route table into routes, and knows which methods an address has. */
import type { FastifyInstance, FastifySchemaCompiler, RouteOptions } from 'fastify';
import { ACTIONS, ANY_ENVIRONMENT, ANY_TENANT, type AuthenticateOptions, type PantheonAuth } from 'pantheon-auth';
import { z } from 'zod';
import { authenticated } from './caller.ts';
import { toValidator } from './input.ts';
import { answerOAuthError } from './oauth-error.ts';
import { toRouteSchema } from './openapi.ts';
import type { Access, Operation } from './operation.ts';
import { HANDLER_TIMEOUT_MS } from './server-bounds.ts';

/** A route without a query of its own takes none: a misspelt parameter is told and not ignored. */
const NO_QUERY = z.strictObject({});

export function registerOperation(app: FastifyInstance, auth: PantheonAuth, operation: Operation): void {
  const { method, url, access, answer, handle } = operation;
  const options = authenticateOptions(access);
  const route: RouteOptions = {
    method,
    url,
    schema: toRouteSchema(operation),
    config: { bodyKind: operation.bodyKind ?? 'json' },
    validatorCompiler: validators(operation),
    ...(options !== null && { onRequest: authenticated(auth, options) }),
    ...(operation.errors === 'oauth' && { errorHandler: answerOAuthError }),
    ...(operation.isHot !== true && { handlerTimeout: HANDLER_TIMEOUT_MS }),
    handler: async (request, reply) => {
      if (answer.status !== 200) reply.code(answer.status);
      return handle(request, reply);
    },
  };
  app.route(route);
}

/** The edge asks for the permission, so that nobody who lacks it is listened to; the engine asks again. */
function authenticateOptions(access: Access): AuthenticateOptions | null {
  if (access.kind === 'key') return { tenant: ANY_TENANT, permissions: [ACTIONS[access.action]] };
  if (access.kind !== 'self') return null;
  return { tenant: ANY_TENANT, environment: ANY_ENVIRONMENT, ...(access.proof && { accept: ['api_key'] }) };
}

function validators(operation: Operation): FastifySchemaCompiler<unknown> {
  return ({ httpPart }) => {
    // An id that cannot be one does not exist, like any other.
    if (httpPart === 'params' && operation.params) return toValidator(operation.params, 'not_found');
    if (httpPart === 'querystring') return toValidator(operation.query ?? NO_QUERY);
    if (httpPart === 'body' && operation.body && !operation.bodyIsReadByEngine) return toValidator(operation.body);
    return (value) => ({ value });
  };
}

interface Row {
  readonly method: string;
  readonly url: string;
}

/** Which methods an address has. */
export class MethodTable {
  readonly #rows: readonly { readonly pattern: RegExp; readonly method: string }[];

  constructor(rows: readonly Row[]) {
    this.#rows = rows.map(({ method, url }) => ({ method, pattern: patternOf(url) }));
  }

  methodsOf(path: string): readonly string[] {
    const methods = this.#rows.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method);
    return methods.includes('GET') ? [...methods, 'HEAD'] : methods;
  }
}

function patternOf(url: string): RegExp {
  const escaped = url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replace(/:[a-z]+/gi, '[^/]+')}$`);
}
