/** Hono 4: its request becomes ours, our refusal becomes its answer. */
import type { Context, MiddlewareHandler } from 'hono';
import type { StatusCode } from 'hono/utils/http-status';
import type { AppTypes, Permission, Principal, Refusal } from '../middleware.ts';
import {
  Guard,
  type GuardOptions,
  type PresentedRequest,
  permissionQuestion,
  type RequestAuthenticator,
  withAnswerHeaders,
} from './guard.ts';

/** What the middleware puts into the context, for `new Hono<AuthEnv>()`: handlers in a chain with it know by themselves. */
export interface AuthEnv<App extends AppTypes = AppTypes> {
  Variables: { principal: Principal<App> };
}

export type HonoAuthOptions<App extends AppTypes = AppTypes> = GuardOptions<readonly [c: Context], App>;

/**
 * Lets a request pass when its credential may act; else answers it. Put CORS first: a preflight carries no credential.
 * The address of the socket is known on Node (`@hono/node-server`); elsewhere give
 * `address: (c) => getConnInfo(c).remote.address` of the runtime, else keys that are bound to addresses are refused, and
 * nobody is slowed down for guessing. Behind proxies, name them in `trustedProxies`.
 *
 * @throws PantheonError `invalid_setting` when the options ask for what cannot be asked.
 *
 * @example
 * ```ts
 * import { createPantheonAuth } from 'pantheon-auth';
 * import { type AuthEnv, pantheonAuth, requirePermission } from 'pantheon-auth/hono';
 * import { Hono } from 'hono';
 *
 * const auth = await createPantheonAuth({ dataDir: './data', issuer: 'https://auth.example.com' });
 * const app = new Hono<AuthEnv>();
 * app.use(pantheonAuth(auth, { permissions: ['docs:read'] }));
 * app.get('/docs', (c) => c.json({ userId: c.var.principal.userId }));
 * app.post('/docs', requirePermission('docs:write'), (c) => c.body(null, 201));
 * ```
 */
export function pantheonAuth<App extends AppTypes = AppTypes>(
  auth: RequestAuthenticator<App>,
  options: HonoAuthOptions<App> = {},
): MiddlewareHandler<AuthEnv<App>> {
  const guard = new Guard(auth, options);
  return async (c, next) => {
    const authentication = await guard.admit(presentedRequest(c), [c]);
    if (!authentication.authenticated) return withAnswerHeaders(answer(c, authentication.refusal), {});
    c.set('principal', authentication.principal);
    await next();
    // After the handler, because a `Response` of its own making would lose what was set before.
    const response = withAnswerHeaders(c.res, authentication.headers);
    if (response !== c.res) c.res = response;
    return undefined;
  };
}

/**
 * Asks for more, after `pantheonAuth`, on one route. What the request took from the limits of its key stays taken; to
 * ask for everything in one decision, give the route a `pantheonAuth` of its own instead of that of the application.
 *
 * An application with types of its own names them: `requirePermission<App>('docs:write')`.
 *
 * @throws PantheonError `invalid_setting` for what is no concrete permission.
 */
export function requirePermission<App extends AppTypes = AppTypes>(
  permissions: Permission<App> | readonly Permission<App>[],
): MiddlewareHandler<AuthEnv<App>> {
  const question = permissionQuestion(permissions);
  return async (c, next) => {
    const refusal = question(c);
    return refusal === null ? next() : answer(c, refusal);
  };
}

/** `Headers` joins what was sent twice with a comma, which no credential holds: there it is refused. */
function presentedRequest(c: Context): PresentedRequest {
  return {
    url: c.req.url,
    header: (name) => {
      const value = c.req.header(name);
      return value === undefined ? [] : [value];
    },
    address: socketAddress(c.env),
  };
}

/** What `@hono/node-server` puts into the environment, without importing it: on other runtimes there is none. */
function socketAddress(env: unknown): string | null {
  const { incoming } = (env ?? {}) as { incoming?: { socket?: { remoteAddress?: unknown } } };
  const address = incoming?.socket?.remoteAddress;
  return typeof address === 'string' ? address : null;
}

function answer(c: Context, refusal: Refusal): Response {
  return c.newResponse(JSON.stringify(refusal.body), refusal.status as StatusCode, refusal.headers);
}
