/**
 * What a stored fixture holds: a store as one version of this product wrote it, with the strings of its keys and tokens and
 * what they must answer for ever. `make-store.ts` makes one; `stored-fixtures.test.ts` opens each with today's version.
 */
import type { DenialCode } from '../src/foundation/codes.ts';
import type { IssuedToken } from '../src/jwt/token-issuer.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import type { TestClock } from '../src/testing/test-clock.ts';

/** A credential and what verifying it must answer. */
export interface Expected {
  readonly name: string;
  readonly credential: string;
  readonly tenant: string;
  readonly environment: 'live' | 'test';
  readonly ip: string | null;
  /** `valid`, or the code of the denial. */
  readonly answer: 'valid' | DenialCode;
}

export interface StoredContents {
  /** When it was made, by the clock that it was made with. It is opened a minute later. */
  readonly madeAt: string;
  readonly issuer: string;
  readonly masterKey: string;
  readonly keys: readonly Expected[];
  readonly tokens: readonly Expected[];
  /** The kids of all signing keys that are published. */
  readonly kids: readonly string[];
  /** Events by type, over all tenants. */
  readonly events: Readonly<Record<string, number>>;
  /** Of the key named `limited`. */
  readonly usageOfLimited: number;
}

export const STORES_FOLDER: URL = new URL('stores/', import.meta.url);

/** Everything that a store of this product can hold, made through the public API. Answers what must be true of it. */
export async function fillStore(auth: PantheonAuth, clock: TestClock): Promise<Omit<StoredContents, 'masterKey'>> {
  const keys: Expected[] = [];
  const tokens: Expected[] = [];
  const expectKey = (name: string, credential: string, more: Partial<Expected> = {}): void => {
    keys.push({ name, credential, tenant: 'default', environment: 'live', ip: null, answer: 'valid', ...more });
  };
  const expectToken = (name: string, credential: string, answer: Expected['answer'] = 'valid'): void => {
    tokens.push({ name, credential, tenant: 'default', environment: 'live', ip: null, answer });
  };
  const make = (name: string, input: object = {}, tenant = 'default') =>
    auth.tenant(tenant).keys.create({ userId: 'user-1', name, permissions: ['docs:read', 'docs:*'], ...input });
  const tokenOf = async (key: string): Promise<IssuedToken> => {
    const exchanged = await auth.tokens.exchange({ key });
    if (!exchanged.issued) throw new Error(`Not exchanged: ${exchanged.verification.denial.code}`);
    return exchanged.token;
  };

  await auth.tenants.create({ id: 'acme', name: 'Acme' });
  await auth.tenants.create({ id: 'asleep' });
  const plain = await make('plain');
  expectKey('plain', plain.key);
  // First of all: every token that the key has signed dies with it.
  const signedBefore = await tokenOf(plain.key);
  const [first] = auth.tokens.jwks().keys.filter((jwk) => jwk['alg'] === 'ES256');
  await auth.tokens.rotateSigningKey('ES256');
  await auth.tokens.retireSigningKey(String(first?.['kid']));
  expectToken('of a retired signing key', signedBefore.token, 'unknown');
  expectKey('of another tenant', (await make('acme', {}, 'acme')).key, { tenant: 'acme' });
  expectKey('of a suspended tenant', (await make('asleep', {}, 'asleep')).key, {
    tenant: 'asleep',
    answer: 'suspended',
  });
  expectKey('test', (await make('test', { environment: 'test' })).key, { environment: 'test' });

  const limited = await make('limited', {
    description: 'Everything that can be set.',
    grantable: ['docs:*'],
    rateLimits: [{ name: 'burst', limit: 100, window: '1m' }],
    quota: { limit: 1_000, period: 'day' },
    ipAllowlist: ['192.0.2.0/24'],
    rotation: { every: '90d', overlap: '7d' },
    expiresIn: '365d',
    metadata: { team: 'platform', nested: { list: [1, 'two', null] } },
  });
  expectKey('limited', limited.key, { ip: '192.0.2.7' });
  expectKey('limited, from elsewhere', limited.key, { ip: '198.51.100.1', answer: 'ip_not_allowed' });
  for (let use = 0; use < 3; use += 1) await auth.verify({ key: limited.key, ip: '192.0.2.7' });

  const rotated = await make('rotated');
  const second = await auth.rotation.rotate(rotated.apiKey.id, { overlap: '7d' });
  expectKey('rotated, before', rotated.key);
  expectKey('rotated, current', second.key);
  const retired = await make('retired');
  await auth.rotation.rotate(retired.apiKey.id, { overlap: '7d' });
  await auth.rotation.retire(retired.apiKey.id, 1);
  expectKey('retired', retired.key, { answer: 'version_retired' });
  const suspended = await make('suspended');
  await auth.keys.suspend(suspended.apiKey.id, { reason: 'for a test' });
  expectKey('suspended', suspended.key, { answer: 'suspended' });
  const resumed = await make('resumed');
  await auth.keys.suspend(resumed.apiKey.id);
  await auth.keys.resume(resumed.apiKey.id);
  expectKey('resumed', resumed.key);
  const revoked = await make('revoked');
  const tokenOfRevoked = await tokenOf(revoked.key);
  await auth.keys.revoke(revoked.apiKey.id, { reason: 'for a test' });
  expectKey('revoked', revoked.key, { answer: 'revoked' });
  expectToken('of a revoked key', tokenOfRevoked.token, 'revoked');
  expectKey('expired', (await make('expired', { expiresIn: '30s' })).key, { answer: 'expired' });
  const updated = await make('updated');
  await auth.keys.update(updated.apiKey.id, { name: 'updated since', permissions: ['docs:read'] });
  expectKey('updated', updated.key);
  await auth.keys.create({ userId: 'user-2', name: 'repeated' }, { idempotencyKey: 'request-1' });

  for (const algorithm of ['ES256', 'Ed25519', 'RS256', 'HS256'] as const) {
    const jwt = { algorithm, audience: [auth.issuer], customClaims: { plan: 'gold' }, ttl: '5m' };
    const { key } = await make(algorithm, { jwt });
    expectKey(algorithm, key);
    expectToken(algorithm, (await tokenOf(key)).token);
    const dead = await tokenOf(key);
    const { tokenId, keyId, expiresAt } = dead;
    await auth.tokens.revoke({ tenantId: 'default', keyId, tokenId, expiresAt });
    expectToken(`${algorithm}, revoked`, dead.token, 'revoked');
  }
  const all = await make('all tokens revoked');
  const before = await tokenOf(all.key);
  clock.advance(2_000);
  await auth.tokens.revokeAllOf({ tenantId: 'default', keyId: all.apiKey.id });
  clock.advance(2_000);
  expectToken('before all of them were revoked', before.token, 'revoked');
  expectToken('after all of them were revoked', (await tokenOf(all.key)).token);

  await auth.tenants.suspend('asleep');

  const events: Record<string, number> = {};
  for (const tenant of ['system', 'default', 'acme', 'asleep']) {
    for (let cursor: string | null = null; ; ) {
      const page = await auth.events.list(tenant, cursor === null ? {} : { cursor });
      for (const { type } of page.items) events[type] = (events[type] ?? 0) + 1;
      cursor = page.nextCursor;
      if (cursor === null) break;
    }
  }
  return {
    madeAt: new Date(clock.now()).toISOString(),
    issuer: auth.issuer,
    keys,
    tokens,
    kids: auth.tokens.jwks().keys.map((jwk) => String(jwk['kid'])),
    events,
    usageOfLimited: 3,
  };
}
