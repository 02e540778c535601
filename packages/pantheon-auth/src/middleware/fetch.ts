/** Wrappers for handlers that answer a `Request` with a `Response`. */
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
 * `Extra`: further arguments that the platform passes to handlers, such as a server, an environment or a connection.
 */
export type FetchAuthOptions<
  Extra extends readonly unknown[] = readonly [],
  App extends AppTypes = AppTypes,
> = GuardOptions<readonly [request: Request, ...extra: Extra], App>;

/** A handler for authenticated requests. */
export type AuthenticatedHandler<Extra extends readonly unknown[] = readonly [], App extends AppTypes = AppTypes> = (
  request: Request,
  principal: Principal<App>,
  ...extra: Extra
) => Response | Promise<Response>;

/** The result of {@link authenticateFetch}. */
export type FetchAuthentication<App extends AppTypes = AppTypes> =
  | {
      readonly authenticated: true;
      readonly principal: Principal<App>;
      /** Headers to set on the response: the state of the limits. */
      readonly headers: Readonly<Record<string, string>>;
    }
  | {
      readonly authenticated: false;
      readonly refusal: Refusal;
      /** The response to the refused request. */
      readonly response: Response;
    };

/**
 * Passes a request to `handler` if its credential is accepted, and answers it otherwise. Put CORS around it, because a
 * preflight has no credential. A `Request` has no client address: without the option `address`, keys with an IP
 * allowlist are denied, and failures are not counted per sender. Behind proxies set `trustedProxies`. Headers are set
 * on the response object that the handler returns, so return a new one for each request.
 *
 * @throws PantheonError `invalid_setting` when an option is invalid.
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

/**
 * Authenticates a request, for handlers that decide themselves what to answer. @throws PantheonError `invalid_setting`.
 */
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
 * Requires further permissions, inside {@link withAuth}. Units that the request consumed are not returned if it is
 * refused here.
 *
 * @throws PantheonError `invalid_setting` for a malformed permission or a pattern.
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

/** `Headers` joins repeated headers with a comma, which no credential contains, so the result is refused. */
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
