/** Express 5: its request becomes ours, our refusal becomes its answer. */
import type { Request, RequestHandler, Response } from 'express';
import type { AppTypes, Permission, Principal, Refusal } from '../middleware.ts';
import {
  CACHE_CONTROL,
  Guard,
  type GuardOptions,
  headerValues,
  permissionQuestion,
  principalOf as principalOfRequest,
  type RequestAuthenticator,
  withVary,
} from './guard.ts';

export type ExpressAuthOptions<App extends AppTypes = AppTypes> = GuardOptions<readonly [req: Request], App>;

/**
 * Lets a request pass when its credential may act; else answers it. Put CORS first: a preflight carries no credential.
 * Behind proxies, name them in `trustedProxies`: `req.ip` decides on hops as they are written, with their ports.
 *
 * @throws PantheonError `invalid_setting` when the options ask for what cannot be asked.
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
      // A router that is mounted somewhere cuts `url`; what was sent is in `originalUrl`.
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
 * Asks for more, after `pantheonAuth`, on one route. What the request took from the limits of its key stays taken; to
 * ask for everything in one decision, give the route a `pantheonAuth` of its own instead of that of the application.
 *
 * An application with types of its own names them: `requirePermission<App>('docs:write')`.
 *
 * @throws PantheonError `invalid_setting` for what is no concrete permission.
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

/** Who sent this request. @throws PantheonError `internal_error` when `pantheonAuth` does not guard the route. */
export function principalOf(req: Request): Principal {
  return principalOfRequest(req);
}

/** Past Express's own `json`, whose settings would change the body. */
function answer(res: Response, refusal: Refusal): void {
  res.statusCode = refusal.status;
  for (const [name, value] of Object.entries(refusal.headers)) res.setHeader(name, value);
  res.end(JSON.stringify(refusal.body));
}
