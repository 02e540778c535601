/**
 * Authenticates requests and finds the tenant that they act in. A key of the system tenant acts in the tenant that its
 * request names; any other key acts in its own tenant, and other tenants do not exist for it.
 */
import type { FastifyRequest, onRequestAsyncHookHandler, preHandlerHookHandler } from 'fastify';
import {
  type Action,
  type AuthenticateOptions,
  type AuthRequest,
  type Caller,
  type Clock,
  callerOf,
  DEFAULT_TENANT,
  headerValues,
  type PantheonAuth,
  PantheonError,
  type Principal,
  SYSTEM_TENANT,
  type TrustedProxies,
  withoutCredentials,
} from 'pantheon-auth';
import { CALLER_AGE_MAX_MS, USER_AGENT_LENGTH_MAX } from '../settings/server-bounds.ts';
import { sendRefusal } from './problem.ts';

/** An authenticated caller. */
export interface RequestContext {
  readonly principal: Principal;
  /** For the permission checks and the audit trail. */
  readonly caller: Caller;
  /** The tenant that the request is about. */
  readonly tenantId: string;
  /** When the credential was verified, by the monotonic clock. */
  readonly verifiedAtMs: number;
}

/** What the log line about a request contains besides its status. */
export interface Outcome {
  /** The actual cause of a refusal, also where the caller is told only `invalid_key`. Null: it was not refused. */
  readonly cause: string | null;
  readonly keyId: string | null;
}

declare module 'fastify' {
  interface FastifyRequest {
    acting: RequestContext | null;
    outcome: Outcome | null;
    /** Read it with {@link addressOf}. */
    clientAddress: string | null;
  }
}

const TENANT_HEADER = 'pantheon-tenant';

/** Called with a request before its body is read. */
export type BodyBound = (request: FastifyRequest, response: Answering) => void;

/** What is asked of the response: whether it is closed, and to be told when. */
interface Answering {
  readonly closed: boolean;
  once(event: 'close', listener: () => void): unknown;
}

/**
 * Lets a request continue when its credential may act; otherwise answers it. After that `boundBody` is called. It is not a
 * separate Fastify hook, to save one hook call on the most frequent route.
 */
export function authenticated(
  auth: PantheonAuth,
  options: AuthenticateOptions,
  clock: Clock,
  boundBody: BodyBound | null,
): onRequestAsyncHookHandler {
  return async (request, reply) => {
    const verifiedAtMs = clock.monotonicMs();
    const authentication = await auth.authenticate(toAuthRequest(request), options);
    if (!authentication.authenticated) {
      sendRefusal(request, reply, authentication.refusal);
      return reply;
    }
    const { principal, headers } = authentication;
    reply.headers(headers);
    const caller = callerOf(principal, { ...senderOf(request), requestId: request.id });
    // Set before the tenant is resolved, so that the log names the key also when that fails.
    request.acting = { principal, caller, tenantId: principal.tenantId, verifiedAtMs };
    request.acting = { ...request.acting, tenantId: await actingTenant(auth, { principal, caller }, request) };
    boundBody?.(request, reply.raw);
    return undefined;
  };
}

/**
 * Authenticates the caller again when the body arrived late, or its tenant was read late: the check made when the headers
 * arrived is then too old. The engine confirms the caller again in any case: for a change at the commit, for a read when
 * its turn comes and before its answer.
 */
export function stillAuthenticated(auth: PantheonAuth, action: Action | null, clock: Clock): preHandlerHookHandler {
  return (request, _reply, done) => {
    // Without a promise in the usual case, because the most frequent route has this hook.
    const confirming = confirmLate(auth, action, requestContextOf(request), clock);
    if (confirming === null) done();
    else confirming.then(() => done(), done);
  };
}

/** Confirms the caller if its authentication is too old for an acceptance. Null: it is not. */
export function confirmLate(
  auth: PantheonAuth,
  action: Action | null,
  { caller, tenantId, verifiedAtMs }: RequestContext,
  clock: Clock,
): Promise<void> | null {
  if (clock.monotonicMs() - verifiedAtMs <= CALLER_AGE_MAX_MS) return null;
  return auth.confirm(caller, action === null ? null : { action, tenantId });
}

/** The caller of an authenticated route. */
export function requestContextOf(request: FastifyRequest): RequestContext {
  if (request.acting === null) throw new Error('Invariant broken: this route is for keys.');
  return request.acting;
}

export function toAuthRequest(request: FastifyRequest): AuthRequest {
  return {
    url: request.raw.url ?? '',
    header: (name) => headerValues(request.raw.rawHeaders, name),
    address: addressOf(request),
    requestId: request.id,
  };
}

/** The value of the Authorization header; null when there is none. @throws PantheonError `ambiguous_credential`. */
export function authorizationOf(request: FastifyRequest): string | null {
  const { rawHeaders } = request.raw;
  const [value, second] = [...headerValues(rawHeaders, 'authorization'), ...headerValues(rawHeaders, 'x-api-key')];
  if (second !== undefined) throw new PantheonError('ambiguous_credential');
  return value ?? null;
}

/**
 * The client address of the request; null when it is not known. Not Fastify's `ip`, which compares proxy addresses
 * without normalising them.
 */
export function addressOf(request: FastifyRequest): string | null {
  return request.clientAddress;
}

/** Determines the client address once per request. */
export function noteAddress(request: FastifyRequest, proxies: TrustedProxies): void {
  const forwardedFor = (): readonly string[] => headerValues(request.raw.rawHeaders, 'x-forwarded-for');
  request.clientAddress = proxies.clientAddress(request.raw.socket.remoteAddress, forwardedFor);
}

/** Address and user agent of the request, for the audit trail. */
export function senderOf(request: FastifyRequest): {
  readonly address: string | null;
  readonly userAgent: string | null;
} {
  const userAgent = request.headers['user-agent'];
  return {
    address: addressOf(request),
    userAgent: userAgent === undefined ? null : withoutCredentials(userAgent).slice(0, USER_AGENT_LENGTH_MAX),
  };
}

async function actingTenant(
  auth: PantheonAuth,
  { principal, caller }: Pick<RequestContext, 'principal' | 'caller'>,
  request: FastifyRequest,
): Promise<string> {
  const named = request.headers[TENANT_HEADER];
  if (principal.tenantId !== SYSTEM_TENANT) {
    if (named !== undefined) throw new PantheonError('not_found');
    return principal.tenantId;
  }
  if (named === undefined || named === DEFAULT_TENANT) return DEFAULT_TENANT;
  await auth.tenants.assertThere(String(named), caller);
  return String(named);
}
