/** Middleware for Hono 4. */
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

/**
 * The context variables set by the middleware, for `new Hono<AuthEnv>()`. Handlers chained with the middleware get the
 * type automatically.
 */
export interface AuthEnv<App extends AppTypes = AppTypes> {
  Variables: { principal: Principal<App> };
}

export type HonoAuthOptions<App extends AppTypes = AppTypes> = GuardOptions<readonly [c: Context], App>;

/**
 * Creates a middleware that lets a request continue if its credential is accepted, and answers it otherwise. Put CORS
 * before it, because a preflight has no credential. The peer address is known on Node (`@hono/node-server`); on other
 * runtimes set `address: (c) => getConnInfo(c).remote.address`, otherwise keys with an IP allowlist are denied, and
 * failures are not counted per sender. Behind proxies set `trustedProxies`.
 *
 * @throws PantheonError `invalid_setting` when an option is invalid.
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
    // After the handler, because a `Response` created by it would not have headers set before.
    const response = withAnswerHeaders(c.res, authentication.headers);
    if (response !== c.res) c.res = response;
    return undefined;
  };
}

/**
 * Requires further permissions on one route, after `pantheonAuth`. Units that the request consumed are not returned if
 * it is refused here. To check everything at once, give the route its own `pantheonAuth` instead.
 *
 * An application with types of its own names them: `requirePermission<App>('docs:write')`.
 *
 * @throws PantheonError `invalid_setting` for a malformed permission or a pattern.
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

/** `Headers` joins repeated headers with a comma, which no credential contains, so the result is refused. */
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

/**
 * The peer address that `@hono/node-server` puts into the environment. Not imported, because other runtimes do not have
 * it.
 */
function socketAddress(env: unknown): string | null {
  const { incoming } = (env ?? {}) as { incoming?: { socket?: { remoteAddress?: unknown } } };
  const address = incoming?.socket?.remoteAddress;
  return typeof address === 'string' ? address : null;
}

function answer(c: Context, refusal: Refusal): Response {
  return c.newResponse(JSON.stringify(refusal.body), refusal.status as StatusCode, refusal.headers);
}
