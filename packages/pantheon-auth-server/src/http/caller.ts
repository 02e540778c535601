/**
 * Who is calling and where they act. A key of the system tenant acts in the tenant that its request names; any other
 * key acts in its own, and for it there are no others.
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
  type PantheonAuth,
  PantheonError,
  type Principal,
  SYSTEM_TENANT,
  type TrustedProxies,
} from 'pantheon-auth';
import { CALLER_AGE_MAX_MS, USER_AGENT_LENGTH_MAX } from '../settings/server-bounds.ts';
import { withoutCredentials } from './exposed-credentials.ts';
import { sendRefusal } from './problem.ts';

/** A caller who proved a key. */
export interface RequestContext {
  readonly principal: Principal;
  /** For the permission checks and the audit trail. */
  readonly caller: Caller;
  /** The tenant that the request is about. */
  readonly tenantId: string;
  /** When the credential was verified, by the monotonic clock. */
  readonly verifiedAtMs: number;
}

/** What the log says of a request besides how it ended. */
export interface Outcome {
  /** Why it was refused, truly. Null: it was not. */
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

/** Lets a request pass when its credential may act; else answers it. */
export function authenticated(
  auth: PantheonAuth,
  options: AuthenticateOptions,
  clock: Clock,
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
    // Before the tenant is looked at, so that the log names the key of a request that is refused there.
    request.acting = { principal, caller, tenantId: principal.tenantId, verifiedAtMs };
    request.acting = { ...request.acting, tenantId: await actingTenant(auth, principal, request) };
    return undefined;
  };
}

/**
 * Looks at the caller again when the body took its time to arrive: what is answered then must not rest on who they were
 * when the headers came. Changes are looked at by the engine in any case, when they are committed.
 */
export function stillAuthenticated(auth: PantheonAuth, action: Action | null, clock: Clock): preHandlerHookHandler {
  return (request, _reply, done) => {
    const { caller, tenantId, verifiedAtMs } = requestContextOf(request);
    // Most of the time without a promise: the hottest route has this hook.
    if (clock.monotonicMs() - verifiedAtMs <= CALLER_AGE_MAX_MS) done();
    else auth.confirm(caller, action === null ? null : { action, tenantId }).then(() => done(), done);
  };
}

/** The caller of a route that only keys reach. */
export function requestContextOf(request: FastifyRequest): RequestContext {
  if (request.acting === null) throw new Error('Invariant broken: this route is for keys.');
  return request.acting;
}

/** Every value of a header, for Node keeps only the first of two and so would hide the second. */
function headerValues(request: FastifyRequest, name: string): readonly string[] {
  const { rawHeaders } = request.raw;
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name);
}

export function toAuthRequest(request: FastifyRequest): AuthRequest {
  return {
    url: request.raw.url ?? '',
    header: (name) => headerValues(request, name),
    address: addressOf(request),
    requestId: request.id,
  };
}

/** The one Authorization header; null: there is none. @throws PantheonError `ambiguous_credential`. */
export function authorizationOf(request: FastifyRequest): string | null {
  const [value, second] = [...headerValues(request, 'authorization'), ...headerValues(request, 'x-api-key')];
  if (second !== undefined) throw new PantheonError('ambiguous_credential');
  return value ?? null;
}

/** Where the request comes from, for everything that asks; null: not known. Fastify's own `ip` decides on hops as they are written. */
export function addressOf(request: FastifyRequest): string | null {
  return request.clientAddress;
}

/** Finds out once per request where it comes from. */
export function noteAddress(request: FastifyRequest, proxies: TrustedProxies): void {
  const forwardedFor = (): readonly string[] => headerValues(request, 'x-forwarded-for');
  request.clientAddress = proxies.clientAddress(request.raw.socket.remoteAddress, forwardedFor);
}

/** Where a request comes from and what sends it, for the audit trail. */
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

async function actingTenant(auth: PantheonAuth, principal: Principal, request: FastifyRequest): Promise<string> {
  const named = request.headers[TENANT_HEADER];
  if (principal.tenantId !== SYSTEM_TENANT) {
    if (named !== undefined) throw new PantheonError('not_found');
    return principal.tenantId;
  }
  if (named === undefined || named === DEFAULT_TENANT) return DEFAULT_TENANT;
  // As the process: that the tenant exists is no secret from a key of the system.
  return (await auth.tenants.get(String(named))).id;
}
