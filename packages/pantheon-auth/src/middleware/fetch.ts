/** Anything that answers a `Request` with a `Response`: the request becomes ours, our refusal becomes a `Response`. */
import type { AppTypes, Permission, Principal, Refusal } from '../middleware.ts';
import {
  Guard,
  type GuardOptions,
  type PresentedRequest,
  permissionQuestion,
  type RequestAuthenticator,
  withAnswerHeaders,
} from './guard.ts';

/** `Extra` is what the platform hands over besides the request: a server, an environment, a connection. */
export type FetchAuthOptions<
  Extra extends readonly unknown[] = readonly [],
  App extends AppTypes = AppTypes,
> = GuardOptions<readonly [request: Request, ...extra: Extra], App>;

/** A handler for requests that were let in. */
export type AuthenticatedHandler<Extra extends readonly unknown[] = readonly [], App extends AppTypes = AppTypes> = (
  request: Request,
  principal: Principal<App>,
  ...extra: Extra
) => Response | Promise<Response>;

/** The answer to {@link authenticateFetch}. */
export type FetchAuthentication<App extends AppTypes = AppTypes> =
  | {
      readonly authenticated: true;
      readonly principal: Principal<App>;
      /** To set on the response: the state of the limits. */
      readonly headers: Readonly<Record<string, string>>;
    }
  | {
      readonly authenticated: false;
      readonly refusal: Refusal;
      /** What to answer. */
      readonly response: Response;
    };

/**
 * Lets a request pass to `handler` when its credential may act; else answers it. Put CORS around it: a preflight carries
 * no credential. A `Request` does not say where it comes from: without `address`, keys that are bound to addresses are
 * refused, and nobody is slowed down for guessing. Behind proxies, name them in `trustedProxies`. Headers are set on the response of the handler itself: give each
 * request a response of its own.
 *
 * @throws PantheonError `invalid_setting` when the options ask for what cannot be asked.
 *
 * @example
 * ```ts
 * import { createPantheonAuth } from 'pantheon-auth';
 * import { requirePermission, withAuth } from 'pantheon-auth/fetch';
 *
 * const auth = await createPantheonAuth({ dataDir: './data', issuer: 'https://auth.example.com' });
 * const read = withAuth(auth, { permissions: ['docs:read'] }, (_request, principal) => Response.json(principal.userId));
 * const write = withAuth(auth, {}, requirePermission('docs:write', () => new Response(null, { status: 201 })));
 * export default { fetch: (request: Request) => (request.method === 'POST' ? write(request) : read(request)) };
 * ```
 */
export function withAuth<Extra extends readonly unknown[] = readonly [], App extends AppTypes = AppTypes>(
  auth: RequestAuthenticator<App>,
  options: FetchAuthOptions<Extra, App>,
  handler: AuthenticatedHandler<Extra, App>,
): (request: Request, ...extra: Extra) => Promise<Response> {
  const guard = new Guard<readonly [Request, ...Extra], App>(auth, options);
  return async (request, ...extra) => {
    const authentication = await guard.admit(presentedRequest(request), [request, ...extra]);
    if (!authentication.authenticated) return withAnswerHeaders(toResponse(authentication.refusal), {});
    return withAnswerHeaders(await handler(request, authentication.principal, ...extra), authentication.headers);
  };
}

/** The same question by itself, for a handler that goes on either way. @throws PantheonError `invalid_setting`. */
export async function authenticateFetch<App extends AppTypes = AppTypes>(
  auth: RequestAuthenticator<App>,
  request: Request,
  options: FetchAuthOptions<readonly [], App> = {},
): Promise<FetchAuthentication<App>> {
  const authentication = await new Guard(auth, options).admit(presentedRequest(request), [request]);
  if (authentication.authenticated) return authentication;
  const { refusal } = authentication;
  return { authenticated: false, refusal, response: withAnswerHeaders(toResponse(refusal), {}) };
}

/**
 * Asks for more, inside of {@link withAuth}. What the request took from the limits of its key stays taken.
 *
 * @throws PantheonError `invalid_setting` for what is no concrete permission.
 */
export function requirePermission<Extra extends readonly unknown[] = readonly [], App extends AppTypes = AppTypes>(
  permissions: Permission<App> | readonly Permission<App>[],
  handler: AuthenticatedHandler<Extra, App>,
): AuthenticatedHandler<Extra, App> {
  const question = permissionQuestion(permissions);
  return (request, principal, ...extra) => {
    const refusal = question(request);
    return refusal === null ? handler(request, principal, ...extra) : toResponse(refusal);
  };
}

/** `Headers` joins what was sent twice with a comma, which no credential holds: there it is refused. */
function presentedRequest({ url, headers }: Request): PresentedRequest {
  return {
    url,
    header: (name: string) => {
      const value = headers.get(name);
      return value === null ? [] : [value];
    },
    address: null,
  };
}

function toResponse({ status, headers, body }: Refusal): Response {
  return new Response(JSON.stringify(body), { status, headers });
}
