/** Callers as the edge makes them: from a credential that was presented and accepted. */
import type { Caller } from '../src/domain/key-policy.ts';
import { ANY_TENANT } from '../src/domain/tenant.ts';
import { type AuthRequest, callerOf } from '../src/middleware.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';

/** Where all of them call from. */
const ADDRESS = '192.0.2.1';

/** The caller that this key string, or a token of it, makes, as the engine sees it now. */
export async function callerFor(
  auth: PantheonAuth,
  key: string,
  via: 'api_key' | 'token' = 'api_key',
): Promise<Caller> {
  return callerBy(auth, via === 'token' ? await tokenOf(auth, key) : key);
}

/** The caller that this credential makes. */
export async function callerBy(auth: PantheonAuth, credential: string, audience?: readonly string[]): Promise<Caller> {
  const authentication = await auth.authenticate(authRequest(credential), {
    tenant: ANY_TENANT,
    ...(audience && { audience }),
  });
  if (!authentication.authenticated) throw new Error(`Not valid: ${authentication.refusal.cause}`);
  return callerOf(authentication.principal, { address: ADDRESS, userAgent: 'test', requestId: null });
}

/** A request that presents this credential. */
export function authRequest(credential: string): AuthRequest {
  return {
    url: '/v1/keys',
    header: (name) => (name === 'authorization' ? [`Bearer ${credential}`] : []),
    address: ADDRESS,
  };
}

/** A token that may do all that the key may: managing is in one only when it is named. */
export async function tokenOf(auth: PantheonAuth, key: string): Promise<string> {
  const presented = { key, tenant: ANY_TENANT, ip: ADDRESS } as const;
  const verification = await auth.verify({ ...presented, cost: 0 });
  const permissions = verification.valid ? verification.key.permissions : [];
  const exchange = await auth.tokens.exchange({ ...presented, permissions });
  if (!exchange.issued) throw new Error(`Not issued: ${exchange.verification.denial.code}`);
  return exchange.token.token;
}
