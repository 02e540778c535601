/** Fastify 5: its request becomes ours, our refusal becomes its answer. */
import type { FastifyPluginCallback, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify';
import type { AppTypes, AuthenticateOptions, Permission, Principal, Refusal } from '../middleware.ts';
import {
  CACHE_CONTROL,
  Guard,
  type GuardOptions,
  headerValues,
  permissionQuestion,
  principalOf,
  type RequestAuthenticator,
  withVary,
} from './guard.ts';

export type FastifyAuthOptions<App extends AppTypes = AppTypes> = GuardOptions<readonly [request: FastifyRequest], App>;

declare module 'fastify' {
  interface FastifyRequest {
    /** Who sent this request. Reading it throws where `pantheonAuth` does not guard the route. */
    readonly principal: Principal;
  }
  interface FastifyContextConfig {
    /** What this route asks for beyond the plugin's options, in one decision; `false`: the route is public. */
    pantheonAuth?: AuthenticateOptions | false;
  }
}

/**
 * A plugin that lets a request pass when its credential may act; else answers it. It guards the scope that registers it
 * and all below, routes that do not exist among them. Register CORS first: a preflight carries no credential.
 * Behind proxies, name them in `trustedProxies`: `request.ip` decides on hops as they are written, with their ports.
 *
 * @throws PantheonError `invalid_setting` when the options ask for what cannot be asked.
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
 * Asks for more, after the plugin: `{ onRequest: requirePermission('docs:write') }`. What the request took from the
 * limits of its key stays taken; `config.pantheonAuth` of the route asks for everything in one decision.
 *
 * An application with types of its own names them: `requirePermission<App>('docs:write')`.
 *
 * @throws PantheonError `invalid_setting` for what is no concrete permission.
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

/** How `fastify-plugin` marks one: not a scope of its own, made for this version, with a name for messages. */
const PLUGIN = {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'pantheon-auth',
  [Symbol.for('plugin-meta')]: { fastify: '5.x', name: 'pantheon-auth' },
};

function presentedRequest(request: FastifyRequest): Parameters<Guard<readonly [FastifyRequest]>['admit']>[0] {
  return {
    // `rewriteUrl` changes `url`; what was sent is in `originalUrl`.
    url: request.originalUrl,
    header: (name) => headerValues(request.raw.rawHeaders, name),
    address: request.socket.remoteAddress ?? null,
  };
}

/** As text, so that no serializer or response schema of the route changes the body. */
function answer(reply: FastifyReply, refusal: Refusal): FastifyReply {
  return reply.code(refusal.status).headers(refusal.headers).send(JSON.stringify(refusal.body));
}
