/** Plugin for Fastify 5. */
import type { FastifyPluginCallback, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify';
import { headerValues } from '../foundation/header-values.ts';
import type { AppTypes, AuthenticateOptions, Permission, Principal, Refusal } from '../middleware.ts';
import {
  CACHE_CONTROL,
  Guard,
  type GuardOptions,
  permissionQuestion,
  principalOf,
  type RequestAuthenticator,
  withVary,
} from './guard.ts';

export type FastifyAuthOptions<App extends AppTypes = AppTypes> = GuardOptions<readonly [request: FastifyRequest], App>;

declare module 'fastify' {
  interface FastifyRequest {
    /** The authenticated caller. Reading it throws when the route has no `pantheonAuth`. */
    readonly principal: Principal;
  }
  interface FastifyContextConfig {
    /** Options of this route in addition to those of the plugin, checked together; `false`: the route is public. */
    pantheonAuth?: AuthenticateOptions | false;
  }
}

/**
 * Creates a plugin that lets a request continue if its credential is accepted, and answers it otherwise. It applies to
 * the scope that registers it and to nested scopes, including unknown routes. Register CORS before it, because a
 * preflight has no credential. Behind proxies set `trustedProxies`; `request.ip` is not used, because it compares
 * addresses including their ports.
 *
 * @throws PantheonError `invalid_setting` when an option is invalid.
 *
 * @example
 * ```ts
 * import { createPantheonAuth } from 'pantheon-auth';
 * import { pantheonAuth } from 'pantheon-auth/fastify';
 * import { fastify } from 'fastify';
 *
 * const auth = await createPantheonAuth({ dataDir: './data', issuer: 'https://auth.example.com' });
 * const app = fastify();
 * await app.register(pantheonAuth(auth, { permissions: ['docs:read'] }));
 * app.get('/docs', async (request) => ({ userId: request.principal.userId }));
 * app.post('/docs', { config: { pantheonAuth: { permissions: ['docs:write'] } } }, async () => ({ stored: true }));
 * app.get('/health', { config: { pantheonAuth: false } }, async () => ({ ok: true }));
 * ```
 */
export function pantheonAuth<App extends AppTypes = AppTypes>(
  auth: RequestAuthenticator<App>,
  options: FastifyAuthOptions<App> = {},
): FastifyPluginCallback {
  const guard = new Guard(auth, options);
  const demands = new WeakMap<AuthenticateOptions, AuthenticateOptions>();
  const demandOf = (route: AuthenticateOptions | undefined): AuthenticateOptions | undefined => {
    if (route === undefined) return undefined;
    const demand = demands.get(route) ?? guard.demandOf(route);
    demands.set(route, demand);
    return demand;
  };

  const plugin: FastifyPluginCallback = (app, _, done) => {
    if (!app.hasRequestDecorator('principal')) {
      app.decorateRequest('principal', {
        getter(this: FastifyRequest) {
          return principalOf(this);
        },
      });
    }
    app.addHook('onRequest', async (request, reply) => {
      const route = request.routeOptions.config.pantheonAuth;
      if (route === false) return undefined;
      const authentication = await guard.admit(presentedRequest(request), [request], demandOf(route));
      reply.header('vary', withVary(reply.getHeader('vary')));
      if (!authentication.authenticated) return answer(reply, authentication.refusal);
      if (!reply.hasHeader('cache-control')) reply.header('cache-control', CACHE_CONTROL);
      reply.headers(authentication.headers);
      return undefined;
    });
    done();
  };
  return Object.assign(plugin, PLUGIN);
}

/**
 * Requires further permissions on one route: `{ onRequest: requirePermission('docs:write') }`. Units that the request
 * consumed are not returned if it is refused here. `config.pantheonAuth` of the route checks everything at once.
 *
 * An application with types of its own names them: `requirePermission<App>('docs:write')`.
 *
 * @throws PantheonError `invalid_setting` for a malformed permission or a pattern.
 */
export function requirePermission<App extends AppTypes = AppTypes>(
  permissions: Permission<App> | readonly Permission<App>[],
): onRequestAsyncHookHandler {
  const question = permissionQuestion(permissions);
  return async (request, reply) => {
    const refusal = question(request);
    return refusal === null ? undefined : answer(reply, refusal);
  };
}

/** The properties that `fastify-plugin` sets: no own scope, the supported version, and a name. */
const PLUGIN = {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'pantheon-auth',
  [Symbol.for('plugin-meta')]: { fastify: '5.x', name: 'pantheon-auth' },
};

function presentedRequest(request: FastifyRequest): Parameters<Guard<readonly [FastifyRequest]>['admit']>[0] {
  return {
    // `rewriteUrl` changes `url`; `originalUrl` has what was sent.
    url: request.originalUrl,
    header: (name) => headerValues(request.raw.rawHeaders, name),
    address: request.socket.remoteAddress ?? null,
  };
}

/** Sent as text, so that no serializer or response schema of the route changes the body. */
function answer(reply: FastifyReply, refusal: Refusal): FastifyReply {
  return reply.code(refusal.status).headers(refusal.headers).send(JSON.stringify(refusal.body));
}
