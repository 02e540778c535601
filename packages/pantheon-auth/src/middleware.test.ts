import fc from 'fast-check';
import { isInnerList, parseList } from 'structured-headers';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openTestEngine, type TestEngine } from '../test/test-engine.ts';
import type { APIKey } from './api-keys/api-key.ts';
import type { KeyValidator, Verification, VerifiedKey } from './api-keys/key-validator.ts';
import { ANY_ENVIRONMENT } from './domain/key.ts';
import type { LimitState } from './domain/limits.ts';
import { ANY_TENANT } from './domain/tenant.ts';
import { CODES, type Code } from './foundation/codes.ts';
import { PantheonError } from './foundation/errors.ts';
import type { TokenVerifier } from './jwt/token-verifier.ts';
import {
  type AuthenticateOptions,
  type Authentication,
  Authenticator,
  callerOf,
  errorRefusal,
  type Principal,
  permissionRefusal,
  type Refusal,
  rateLimitHeaders,
} from './middleware.ts';
import type { PantheonAuth } from './pantheon-auth.ts';

let engine: TestEngine;
let auth: PantheonAuth;
let key = '';
let apiKey: APIKey;

beforeAll(async () => {
  engine = await openTestEngine();
  ({ auth } = engine);
  const permissions = ['docs:read', 'docs:list'];
  ({ key, apiKey } = await auth.keys.create({ userId: 'user-1', name: 'k', permissions, grantable: ['docs:*'] }));
});

afterAll(() => engine.close());

// Failures of an address are forgiven with time.
beforeEach(() => engine.clock.advance(120_000));

interface Sent {
  readonly url?: string;
  readonly authorization?: readonly string[];
  readonly apiKey?: readonly string[];
  readonly address?: string | null;
  readonly requestId?: string;
}

function ask(sent: Sent, options?: AuthenticateOptions, engine: Pick<PantheonAuth, 'authenticate'> = auth) {
  const { url = '/', authorization = [], apiKey: xApiKey = [], address = null, requestId } = sent;
  const header = (name: string): readonly string[] => (name === 'authorization' ? authorization : xApiKey);
  return engine.authenticate({ url, header, address, ...(requestId && { requestId }) }, options);
}

const bearer = (credential: string): Sent => ({ authorization: [`Bearer ${credential}`] });

function refusalOf(authentication: Authentication): Refusal {
  if (authentication.authenticated) throw new Error('It was let in.');
  return authentication.refusal;
}

function principalOf(authentication: Authentication): Principal {
  if (!authentication.authenticated) throw new Error(`It was refused: ${authentication.refusal.cause}.`);
  return authentication.principal;
}

async function tokenOf(credential: string, permissions?: readonly string[]): Promise<string> {
  const exchange = await auth.tokens.exchange({ key: credential, ...(permissions && { permissions }) });
  if (!exchange.issued) throw new Error('The key of the test is valid.');
  return exchange.token.token;
}

describe('accepted credentials', () => {
  test('a key may do what its record allows', async () => {
    const principal = principalOf(await ask(bearer(key)));
    expect(principal).toMatchObject({ kind: 'api_key', keyId: apiKey.id, userId: 'user-1', version: 1, token: null });
    expect([principal.can('docs:read'), principal.can('docs:write'), principal.can('*')]).toEqual([true, false, false]);
  });

  test('a token may do what both it and its key allow', async () => {
    const principal = principalOf(await ask(bearer(await tokenOf(key, ['docs:list']))));
    expect(principal).toMatchObject({ kind: 'token', keyId: apiKey.id, permissions: ['docs:list'] });
    expect(principal.token).toMatchObject({ audience: ['https://auth.example.com'] });
    expect([principal.can('docs:list'), principal.can('docs:read')]).toEqual([true, false]);
  });

  test('a token is accepted for a requested audience, and for no other', async () => {
    const token = await tokenOf(key);
    expect(refusalOf(await ask(bearer(token), { audience: ['https://other.example.com'] })).code).toBe(
      'wrong_audience',
    );
    expect(principalOf(await ask(bearer(token), { audience: ['https://auth.example.com'] })).kind).toBe('token');
  });

  test('a kind of credential that is not accepted is refused like an unknown one', async () => {
    const unknown = refusalOf(await ask(bearer('x')));
    const noKeys = refusalOf(await ask(bearer(key), { accept: ['token'] }));
    const noTokens = refusalOf(await ask(bearer(await tokenOf(key)), { accept: ['api_key'] }));
    for (const refusal of [noKeys, noTokens])
      expect([refusal.body, refusal.headers, refusal.keyId]).toEqual([unknown.body, unknown.headers, null]);
  });

  test('another environment and another tenant are accepted only if the options say so', async () => {
    const test = await auth.keys.create({ userId: 'u', name: 'test', environment: 'test' });
    expect(refusalOf(await ask(bearer(test.key))).code).toBe('environment_mismatch');
    expect(principalOf(await ask(bearer(test.key), { environment: ANY_ENVIRONMENT })).environment).toBe('test');
    await auth.tenants.create({ id: 'acme', name: 'Acme' });
    const other = await auth.tenant('acme').keys.create({ userId: 'u', name: 'other' });
    expect(refusalOf(await ask(bearer(other.key)))).toMatchObject({
      code: 'invalid_key',
      cause: 'unknown',
      keyId: null,
    });
    expect(principalOf(await ask(bearer(other.key), { tenant: ANY_TENANT })).tenantId).toBe('acme');
  });

  test('a request takes its cost from the limits', async () => {
    const rateLimits = [{ name: 'burst', limit: 5, window: '1m' }];
    const limited = await auth.keys.create({ userId: 'u', name: 'limited', rateLimits });
    const left = async (cost: number): Promise<string | undefined> => {
      const answer = await ask(bearer(limited.key), { cost });
      return (answer.authenticated ? answer : answer.refusal).headers['ratelimit'];
    };
    expect(await left(0)).toContain('r=5');
    expect(await left(3)).toContain('r=2');
    expect(await left(3)).toContain('r=2');
    expect(await left(2)).toContain('r=0');
  });
});

describe('refused credentials', () => {
  test('only the key is accepted, whatever is sent, and no refusal repeats it', async () => {
    const junk = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 100 }),
      fc.string({ maxLength: 200 }).map((text) => `Bearer ${text}`),
      fc.constantFrom('basic ', 'Bearer  ', 'Bearer\t', ' Bearer ', 'Bearer', 'Token ').map((scheme) => scheme + key),
      fc.nat({ max: key.length - 1 }).map((at) => `Bearer ${key.slice(0, at)}${key.slice(at + 1)}`),
    );
    await fc.assert(
      fc.asyncProperty(junk, async (value) => {
        const refusal = refusalOf(await ask({ authorization: [value] }));
        expect([400, 401]).toContain(refusal.status);
        if (value.length > 12) expect(JSON.stringify(refusal.body)).not.toContain(value);
        expect(JSON.stringify(refusal)).not.toContain(key.slice(25, 60));
      }),
    );
  });

  test('an address with many wrong guesses is refused for each, and for nothing else', async () => {
    const unknown = `pan_live_${'0'.repeat(59)}`;
    const address = '198.51.100.7';
    const { generator } = auth;
    const cold = await auth.keys.create({ userId: 'u', name: 'cold' });
    for (let failures = 0; failures < 40; failures += 1) await ask({ ...bearer(unknown), address });
    const refusal = refusalOf(await ask({ ...bearer(generator.generateKey().key), address }));
    expect(refusal).toMatchObject({ status: 401, code: 'invalid_key', keyId: null });
    expect(refusal.headers).not.toHaveProperty('retry-after');
    expect(principalOf(await ask({ ...bearer(key), address })).keyId).toBe(apiKey.id);
    expect(principalOf(await ask({ ...bearer(cold.key), address })).keyId).toBe(cold.apiKey.id);
  });

  test('a caller with a valid secret is told the reason, and the operator the id of the key', async () => {
    const bound = await auth.keys.create({ userId: 'u', name: 'bound', ipAllowlist: ['192.0.2.0/24'] });
    const refusal = refusalOf(await ask({ ...bearer(bound.key), address: '198.51.100.1', requestId: 'r-1' }));
    expect(refusal).toMatchObject({
      status: 403,
      code: 'ip_not_allowed',
      cause: 'ip_not_allowed',
      keyId: bound.apiKey.id,
    });
    expect(refusal.body).toMatchObject({ instance: 'urn:pantheon-auth:request:r-1' });
    await auth.keys.revoke(bound.apiKey.id);
    expect(refusalOf(await ask(bearer(bound.key)))).toMatchObject({ status: 401, code: 'revoked' });
  });

  test.each([
    ['the public part of a key is no credential', () => `/keys?hint=${key.slice(0, 25)}`, 'missing_credential'],
    ['a key anywhere in the path is one', () => `/keys/${key}/x`, 'credential_in_url'],
    ['the beginning of a secret is enough', () => `/?q=${key.slice(0, 26)}`, 'credential_in_url'],
    ['a token by any name is one', async () => `/?anything=${await tokenOf(key)}`, 'credential_in_url'],
    [
      'with its dots escaped too',
      async () => `/?t=${(await tokenOf(key)).replaceAll('.', '%2E')}`,
      'credential_in_url',
    ],
    [
      'a token of somebody else is none',
      () => `/?id_token_hint=${jwt({ alg: 'RS256', typ: 'JWT' })}`,
      'missing_credential',
    ],
    [
      'behind one of somebody else it is still found',
      () => `/?a=${jwt({})}&b=${jwt({ typ: 'at+jwt' })}`,
      'credential_in_url',
    ],
    ['what only looks like a token is none', () => `/?a=${'eyJ'.repeat(30_000)}`, 'missing_credential'],
  ])('in the address, %s', async (_name, url, code) => {
    expect(refusalOf(await ask({ url: await url() })).code).toBe(code);
  });
});

function jwt(header: object): string {
  return [header, {}, {}].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
}

describe('errors', () => {
  const failingWith = (error: unknown): Authenticator => {
    const fail = () => Promise.reject(error);
    const validator = { verify: fail } as unknown as KeyValidator;
    return new Authenticator({ validator, tokens: { verify: fail } as unknown as TokenVerifier, keyPrefix: 'pan' });
  };

  test('an outage is a 503 with Retry-After, and its cause is for the operator only', async () => {
    const error = new PantheonError('store_unavailable', { detail: 'disk sda1 is gone', retryAfterSeconds: 7 });
    for (const credential of [key, jwt({})]) {
      const refusal = refusalOf(await ask(bearer(credential), {}, failingWith(error)));
      expect(refusal).toMatchObject({ status: 503, code: 'store_unavailable', error });
      expect(refusal.headers).toMatchObject({ 'retry-after': '7' });
      expect(refusal.headers).not.toHaveProperty('www-authenticate');
      expect(JSON.stringify(refusal.body)).not.toContain('sda1');
    }
  });

  test('an internal error is reported as one, and accepts no caller', async () => {
    const cause = new TypeError('x is not a function');
    const refusal = refusalOf(await ask(bearer(key), {}, failingWith(cause)));
    expect(refusal).toMatchObject({ status: 500, code: 'internal_error' });
    expect(refusal.error?.cause).toBe(cause);
    expect(JSON.stringify(refusal.body)).not.toContain('function');
  });

  test('invalid options are not reported as an error of the caller', async () => {
    for (const options of [{ permissions: ['docs:*'] }, { cost: -1 }]) {
      const refusal = refusalOf(await ask(bearer(key), options));
      expect(refusal).toMatchObject({ status: 500, code: 'internal_error' });
      expect(refusal.error?.cause).toMatchObject({ code: 'invalid_request' });
    }
  });
});

describe('errorRefusal', () => {
  test.each(Object.keys(CODES) as Code[])('%s has the status of its code and repeats no internal detail', (code) => {
    const refusal = errorRefusal(new PantheonError(code, { detail: 'what happened', field: 'name' }), 'r-1');
    const status = CODES[code].status ?? 500;
    expect([refusal.status, refusal.body.status, refusal.code]).toEqual([status, status, code]);
    expect(JSON.stringify(refusal.body).includes('what happened')).toBe(status < 500);
    expect('www-authenticate' in refusal.headers).toBe(
      status === 401 || ['ambiguous_credential', 'credential_in_url', 'insufficient_permissions'].includes(code),
    );
    expect(refusal.headers['retry-after']).toBe(
      (status === 503 || status === 429) && code !== 'store_unusable' ? '1' : undefined,
    );
    expect(refusal.headers).toMatchObject({ 'cache-control': 'no-store' });
  });
});

describe('permissionRefusal', () => {
  test('checking permissions later gives the same refusal as checking them at once', async () => {
    const permissions = ['docs:read', 'docs:write', 'docs:delete'];
    const atOnce = refusalOf(await ask({ ...bearer(key), requestId: 'r-1' }, { permissions }));
    const principal = principalOf(await ask(bearer(key)));
    expect(permissionRefusal(principal, permissions, 'r-1')).toEqual(atOnce);
    expect(permissionRefusal(principal, ['docs:read'], 'r-1')).toBeNull();
    expect(permissionRefusal(principal, [], null)).toBeNull();
  });
});

describe('callerOf', () => {
  const request = { address: '192.0.2.1', userAgent: 'curl', requestId: 'r-1' };

  test('a key as caller has all that the key has', async () => {
    const caller = callerOf(principalOf(await ask(bearer(key))), request);
    expect(caller.authority).toMatchObject({ kind: 'key', keyId: apiKey.id, grantable: ['docs:*'] });
    const actor = { keyId: apiKey.id, userId: 'user-1', address: '192.0.2.1', userAgent: 'curl' };
    expect(caller.auditContext).toEqual({ actor, requestId: 'r-1', reason: null });
  });

  test('a token as caller grants nothing, and nothing that it creates outlives it', async () => {
    const principal = principalOf(await ask(bearer(await tokenOf(key, ['docs:list']))));
    const { authority } = callerOf(principal, request);
    expect(authority).toMatchObject({
      permissions: ['docs:list'],
      grantable: [],
      expiresAt: principal.token?.expiresAt,
    });
  });
});

describe('rateLimitHeaders', () => {
  const limit: fc.Arbitrary<LimitState> = fc.record({
    kind: fc.constantFrom('rate', 'quota'),
    name: fc.stringMatching(/^[a-z][a-z0-9_-]{0,31}$/),
    limit: fc.nat(1_000_000_000),
    remaining: fc.nat(1_000_000_000),
    resetSeconds: fc.nat(2_678_400),
    windowSeconds: fc.integer({ min: 1, max: 2_678_400 }),
  });
  const read = (header: string | undefined): unknown[] =>
    parseList(header ?? '').map((item) => {
      if (isInnerList(item)) throw new Error('A limit is an item.');
      return [item[0], Object.fromEntries(item[1])];
    });

  test('another parser reads the intended values, and both headers name the same limits', () => {
    fc.assert(
      fc.property(fc.array(limit, { minLength: 1, maxLength: 9 }), (limits) => {
        const headers = rateLimitHeaders(limits);
        expect(read(headers['ratelimit-policy'])).toEqual(
          limits.map((one) => [one.name, { q: one.limit, w: one.windowSeconds }]),
        );
        expect(read(headers['ratelimit'])).toEqual(
          limits.map((one) => [one.name, { r: one.remaining, t: one.resetSeconds }]),
        );
      }),
    );
  });

  test('are absent for a key without limits', () => {
    expect(rateLimitHeaders([])).toEqual({});
    expect(rateLimitHeaders([], true)).toEqual({});
  });

  test('say with an acceptance and with a 429 if this node counted limits alone', async () => {
    const limits = [{ kind: 'rate', name: 'a', limit: 1, remaining: 0, resetSeconds: 1, windowSeconds: 1 }] as const;
    const key = { keyId: 'a', permissions: [], rotation: null } as unknown as VerifiedKey;
    const denial = { code: 'rate_limited', violated: ['a'] } as const;
    const no = { valid: false, denial, secretVerified: true, keyId: 'a', retryAfterSeconds: 1, limits } as const;
    const told = async (verification: Verification): Promise<string | undefined> => {
      const validator = { verify: async () => verification } as unknown as KeyValidator;
      const authenticator = new Authenticator({ validator, tokens: {} as TokenVerifier, keyPrefix: 'pan' });
      const header = (name: string) => (name === 'x-api-key' ? ['key'] : []);
      const answer = await authenticator.authenticate({ url: '/', header, address: null });
      return (answer.authenticated ? answer.headers : answer.refusal.headers)['pantheon-limits'];
    };
    expect(await told({ valid: true, key, limits, degraded: true })).toBe('degraded');
    expect(await told({ ...no, degraded: true })).toBe('degraded');
    expect(await told({ valid: true, key, limits, degraded: false })).toBeUndefined();
    expect(await told({ ...no, degraded: false })).toBeUndefined();
  });
});
