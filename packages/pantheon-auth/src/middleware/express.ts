/** Middleware for Express 5. */
import type { Request, RequestHandler, Response } from 'express';
import { headerValues } from '../foundation/header-values.ts';
import type { AppTypes, Permission, Principal, Refusal } from '../middleware.ts';
import {
  CACHE_CONTROL,
  Guard,
  type GuardOptions,
  permissionQuestion,
  principalOf as principalOfRequest,
  type RequestAuthenticator,
  withVary,
} from './guard.ts';

export type ExpressAuthOptions<App extends AppTypes = AppTypes> = GuardOptions<readonly [req: Request], App>;

/**
 * Creates a middleware that lets a request continue if its credential is accepted, and answers it otherwise. Put CORS
 * before it, because a preflight has no credential. Behind proxies set `trustedProxies`; `req.ip` is not used, because
 * it compares addresses including their ports.
 *
 * @throws PantheonError `invalid_setting` when an option is invalid.
 *
 * @example
 * ```ts
 * import { createPantheonAuth } from 'pantheon-auth';
 * import { pantheonAuth, principalOf, requirePermission } from 'pantheon-auth/express';
 * import express from 'express';
 *
 * const auth = await createPantheonAuth({ dataDir: './data', issuer: 'https://auth.example.com' });
 * const app = express();
 * app.use(pantheonAuth(auth, { permissions: ['docs:read'] }));
 * app.get('/docs', (req, res) => res.json({ userId: principalOf(req).userId }));
 * app.post('/docs', requirePermission('docs:write'), (_req, res) => res.sendStatus(201));
 * ```
 */
export function pantheonAuth<App extends AppTypes = AppTypes>(
  auth: RequestAuthenticator<App>,
  options: ExpressAuthOptions<App> = {},
): RequestHandler {
  const guard = new Guard(auth, options);
  return async (req, res, next) => {
    const presented = {
      // A mounted router shortens `url`; `originalUrl` has what was sent.
      url: req.originalUrl,
      header: (name: string) => headerValues(req.rawHeaders, name),
      address: req.socket.remoteAddress ?? null,
    };
    const authentication = await guard.admit(presented, [req]);
    res.setHeader('vary', withVary(res.getHeader('vary')));
    if (!authentication.authenticated) return answer(res, authentication.refusal);
    if (!res.hasHeader('cache-control')) res.setHeader('cache-control', CACHE_CONTROL);
    for (const [name, value] of Object.entries(authentication.headers)) res.setHeader(name, value);
    next();
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
): RequestHandler {
  const question = permissionQuestion(permissions);
  return (req, res, next) => {
    const refusal = question(req);
    if (refusal === null) next();
    else answer(res, refusal);
  };
}

/**
 * The authenticated caller of a request. @throws PantheonError `internal_error` when the route has no `pantheonAuth`.
 */
export function principalOf(req: Request): Principal {
  return principalOfRequest(req);
}

/** Without `res.json`, because application settings could change the body. */
function answer(res: Response, refusal: Refusal): void {
  res.statusCode = refusal.status;
  for (const [name, value] of Object.entries(refusal.headers)) res.setHeader(name, value);
  res.end(JSON.stringify(refusal.body));
}
