/** Callers for tests: of a credential that the engine accepted, and with an authority that the test writes down. */
import type { APIKey } from '../src/api-keys/api-key.ts';
import type { CreateKeyInput } from '../src/api-keys/key-input.ts';
import type { Authority, Caller } from '../src/domain/key-policy.ts';
import { ANY_TENANT } from '../src/domain/tenant.ts';
import { type AuthRequest, callerOf } from '../src/middleware.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import type { TestEngine } from './test-engine.ts';

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

type KeyAuthority = Extract<Authority, { kind: 'key' }>;
/** What a test says about a caller. With `apiKey`: the caller is this key, by its first version. */
type CallerInput = Partial<KeyAuthority> & { readonly apiKey?: Pick<APIKey, 'id' | 'createdAt'> };

/** A caller with this authority, without a credential. What is not given: an administrator of the tenant `default`. */
export function callerWith({ apiKey, ...over }: CallerInput): Caller {
  const authority = { ...(apiKey && { keyId: apiKey.id, secretMadeAt: apiKey.createdAt.getTime() }), ...over };
  return {
    authority: {
      kind: 'key',
      via: 'api_key',
      secretMadeAt: 0,
      version: 1,
      keyId: 'CallerCallerCall',
      tenantId: 'default',
      permissions: ['pantheon:*'],
      grantable: ['*'],
      expiresAt: null,
      ipAllowlist: [],
      ...authority,
    } as KeyAuthority,
    auditContext: {
      actor: {
        keyId: authority.keyId ?? 'CallerCallerCall',
        userId: 'caller',
        address: ADDRESS,
        userAgent: 'test',
      },
      requestId: 'request-1',
      reason: null,
    },
  };
}

/** Creates a key in the tenant, and answers it with the caller that it makes. */
export async function keyAndCaller(
  engine: Pick<TestEngine, 'auth'>,
  tenantId: string,
  input: Partial<CreateKeyInput> = {},
): Promise<{ readonly id: string; readonly key: string; readonly by: Caller }> {
  const { apiKey, key } = await engine.auth.tenant(tenantId).keys.create({ ...A_KEY, ...input });
  const { permissions, grantable, ipAllowlist } = apiKey;
  const expiresAt = apiKey.expiresAt?.getTime() ?? null;
  const by = callerWith({ apiKey, tenantId, permissions, grantable, expiresAt, ipAllowlist });
  return { id: apiKey.id, key, by };
}

const A_KEY: CreateKeyInput = { userId: 'u', name: 'n', permissions: ['docs:read'] };
