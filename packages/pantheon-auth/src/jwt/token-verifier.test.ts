import { describe, expect, test } from 'vitest';
import { refusalOf } from '../../test/refusal-of.ts';
import { StatementCount } from '../../test/statement-count.ts';
import { ISSUER, openTestEngine, type TestEngine, turn } from '../../test/test-engine.ts';
import { mintKeyToken } from './holder-token.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

async function token(engine: TestEngine, input: object = {}) {
  const { key, apiKey } = await engine.auth.keys.create({ ...INPUT, ...input });
  const exchange = await engine.auth.tokens.exchange({ key });
  if (!exchange.issued) throw new Error('not issued');
  return { key, id: apiKey.id, token: exchange.token.token };
}

describe('a token says of its key what its key still is', () => {
  const POLICY = { algorithm: 'ES256', customClaims: { role: 'admin', teams: { blue: ['a', 1] } }, ttl: '1h' } as const;

  test.each([
    ['a custom claim that was removed', { jwt: { customClaims: { teams: null } } }],
    ['all custom claims removed', { jwt: null }],
    [
      'a custom claim that was changed',
      { jwt: { ...POLICY, customClaims: { ...POLICY.customClaims, role: 'guest' } } },
    ],
    [
      'a part of a custom claim that was changed',
      { jwt: { ...POLICY, customClaims: { role: 'admin', teams: { blue: ['a', 2] } } } },
    ],
    ['a custom claim more', { jwt: { ...POLICY, customClaims: { ...POLICY.customClaims, read_only: true } } }],
    ['another user', { userId: 'bob' }],
    ['a lifetime that its policy no longer allows', { jwt: { ...POLICY, ttl: '59m' } }],
  ])('%s: it is refused on every node, seen before or not, and a new one is not', async (_, change) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const other = await engine.openAgain();
    const made = await token(engine, { userId: 'alice', jwt: POLICY });
    const unseen = await auth.tokens.exchange({ key: made.key });
    for (const node of [auth, other])
      expect(await node.tokens.verify({ token: made.token })).toMatchObject({
        valid: true,
        token: { subject: 'alice', customClaims: POLICY.customClaims },
      });
    await auth.keys.update(made.id, change as never);
    await engine.propagate();
    for (const node of [auth, other]) {
      for (const old of [made.token, unseen.issued ? unseen.token.token : ''])
        expect(await node.tokens.verify({ token: old })).toMatchObject({ valid: false, denial: { code: 'expired' } });
      const fresh = await node.tokens.exchange({ key: made.key });
      expect(await node.tokens.verify({ token: fresh.issued ? fresh.token.token : '' })).toMatchObject({ valid: true });
    }
  });

  test.each([
    [
      'the same claims in another order',
      { jwt: { ...POLICY, customClaims: { teams: { blue: ['a', 1] }, role: 'admin' } } },
    ],
    ['another name', { name: 'other' }],
  ])('%s does it no harm', async (_, change) => {
    await using engine = await openTestEngine();
    const made = await token(engine, { jwt: POLICY });
    await engine.auth.keys.update(made.id, change as never);
    expect(await engine.auth.tokens.verify({ token: made.token })).toMatchObject({
      valid: true,
      token: { customClaims: POLICY.customClaims },
    });
  });

  test('also one that was issued without the key, and one that the generator makes by the policy of the key', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { apiKey } = await auth.keys.create({ ...INPUT, jwt: { ...POLICY, ttl: '60s' } });
    const issued = await auth.tokens.issue({ tenantId: 'default', keyId: apiKey.id });
    const metadata = { keyId: apiKey.id, algorithm: 'ES256', issuer: auth.issuer, audience: [auth.issuer] } as const;
    const own = { ...metadata, audience: [...metadata.audience] };
    const generated = auth.generator.generateJWTFromKey(apiKey, { ...own, customClaims: POLICY.customClaims });
    expect(await auth.tokens.verify({ token: issued.token })).toMatchObject({ valid: true });
    expect(await auth.tokens.verify({ token: generated })).toMatchObject({
      valid: true,
      token: { customClaims: POLICY.customClaims },
    });
    for (const customClaims of [{ ...POLICY.customClaims, role: 'owner' }, { role: 'admin' }, {}]) {
      const invented = auth.generator.generateJWTFromKey(apiKey, { ...own, customClaims });
      expect(await auth.tokens.verify({ token: invented })).toMatchObject({ denial: { code: 'expired' } });
    }
  });

  test('also one that its holder has signed: it lasts no longer than the policy of the key allows', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key } = await auth.keys.create({ ...INPUT, jwt: { algorithm: 'HS256', ttl: '60s' } });
    const verified = async (ttlSeconds: number) => {
      const token = mintKeyToken({ key, issuer: ISSUER, audience: [ISSUER], ttlSeconds, clock });
      return auth.tokens.verify({ token });
    };
    expect(await verified(60)).toMatchObject({ valid: true });
    expect(await verified(61)).toMatchObject({ valid: false, denial: { code: 'expired' } });
    expect(await verified(60)).toMatchObject({ valid: true });
  });
});

describe('which key signed is decided by the current log (I5)', () => {
  test('a token of a signing key that another process has just created is accepted', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const { key } = await token(engine);
    await other.verify({ key });
    for (const algorithm of ['ES256', 'Ed25519'] as const) {
      await turn();
      engine.clock.advance(10);
      const { kid, signsFrom } = await engine.auth.tokens.rotateSigningKey(algorithm);
      engine.clock.advance((signsFrom?.getTime() ?? 0) - engine.clock.now());
      const made = await engine.auth.keys.create({ ...INPUT, jwt: { algorithm } });
      const exchange = await engine.auth.tokens.exchange({ key: made.key });
      const text = exchange.issued ? exchange.token.token : '';
      expect(JSON.parse(Buffer.from(text.split('.')[0] ?? '', 'base64url').toString())).toMatchObject({ kid });
      engine.clock.advance(1);
      expect(await other.tokens.verify({ token: text })).toMatchObject({ valid: true });
    }
  });

  test('an invented kid costs at most a read of the head, and no other read', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, token: signed } = await token(engine);
    clock.advance(5);
    await auth.verify({ key });
    const header = Buffer.from(JSON.stringify({ alg: 'ES256', typ: 'at+jwt', kid: 'made-up' })).toString('base64url');
    const forged = [header, ...signed.split('.').slice(1)].join('.');
    clock.advance(5);
    using count = new StatementCount();
    for (let n = 0; n < 10; n += 1)
      expect(await auth.tokens.verify({ token: forged })).toMatchObject({
        denial: { code: 'unknown' },
        secretVerified: false,
      });
    expect(count.reads + count.writes).toBe(0);
    expect(count.heads).toBeLessThanOrEqual(10);
  });
});

describe('what belongs to another tenant does not exist (I10)', () => {
  test('also if its token contradicts itself', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { token: text } = await token(engine);
    const ask = async (audience?: string) =>
      auth.tokens.verify({ token: text, tenant: 'system', ...(audience && { audience: [audience] }) });
    expect(await ask()).toMatchObject({ denial: { code: 'unknown' }, secretVerified: false, keyId: null });
    expect(await ask('elsewhere')).toMatchObject({ denial: { code: 'unknown' }, secretVerified: false, keyId: null });
    clock.advance(3_600_000);
    expect(await ask()).toMatchObject({ denial: { code: 'unknown' }, secretVerified: false, keyId: null });
  });
});

describe('what a presented token costs', () => {
  test('a cached token needs neither a read nor a signature check; one that is too long is not even hashed', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { token: text } = await token(engine);
    await auth.tokens.verify({ token: text });
    using count = new StatementCount();
    expect(await auth.tokens.verify({ token: text })).toMatchObject({ valid: true });
    for (const junk of ['', '.', '..', 'a.b.c', 'x'.repeat(8_193), `${text}x`.padEnd(9_000, 'x')])
      expect(await auth.tokens.verify({ token: junk })).toMatchObject({ denial: { code: 'malformed' } });
    expect(count.reads + count.writes).toBe(0);
  });

  test('a cached token is still checked against the request: audience, permissions, tenant, environment, address', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { token: text } = await token(engine);
    const ask = async (request: object) => {
      const answer = await auth.tokens.verify({ token: text, ...request });
      return answer.valid ? 'valid' : answer.denial.code;
    };
    for (let n = 0; n < 2; n += 1) {
      expect(await ask({})).toBe('valid');
      expect(await ask({ audience: ['elsewhere'] })).toBe('wrong_audience');
      expect(await ask({ permissions: ['docs:write'] })).toBe('insufficient_permissions');
      expect(await ask({ tenant: 'acme' })).toBe('unknown');
      expect(await ask({ environment: 'test' })).toBe('environment_mismatch');
    }
    expect((await refusalOf(auth.tokens.verify({ token: text, permissions: ['*'] }))).code).toBe('invalid_request');
  });

  test('a token expires to the second, plus the leeway, also if it is cached', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { token: text } = await token(engine);
    clock.advance(330_000 - 1);
    expect(await auth.tokens.verify({ token: text })).toMatchObject({ valid: true });
    clock.advance(1);
    for (let n = 0; n < 2; n += 1)
      expect(await auth.tokens.verify({ token: text })).toMatchObject({
        denial: { code: 'expired' },
        secretVerified: true,
      });
  });

  test('its uses count for the key, under the limits of the key', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id, token: text } = await token(engine, { rateLimits: [{ name: 'minute', limit: 3, window: '1m' }] });
    expect(await auth.tokens.verify({ token: text, cost: 0 })).toMatchObject({ limits: [{ remaining: 2 }] });
    await auth.tokens.verify({ token: text, cost: 2 });
    expect(await auth.tokens.verify({ token: text })).toMatchObject({
      denial: { code: 'rate_limited' },
      secretVerified: true,
    });
    expect(await auth.keys.get(id)).toMatchObject({ usageCount: 3 });
  });
});

describe('a token is checked against the current settings of its key', () => {
  const [ONE, TWO, THREE] = ['https://one.example', 'https://two.example', 'https://three.example'] as const;
  const jwtFor = (algorithm: 'ES256' | 'RS256' | 'HS256', ...audience: string[]) => ({ jwt: { algorithm, audience } });
  const codeOf = async (auth: TestEngine['auth'], text: string, audience: readonly string[]): Promise<string> => {
    const answer = await auth.tokens.verify({ token: text, audience });
    return answer.valid ? 'valid' : answer.denial.code;
  };

  test('a removed audience is accepted in no token of the key any more, on every node; an added one affects none', async () => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create({ ...INPUT, ...jwtFor('ES256', ONE, TWO) });
    const exchange = await auth.tokens.exchange({ key, audience: [ONE, TWO] });
    const text = exchange.issued ? exchange.token.token : '';
    for (const node of [auth, other])
      for (const one of [ONE, TWO]) expect(await codeOf(node, text, [one])).toBe('valid');
    await auth.keys.update(apiKey.id, jwtFor('ES256', TWO, THREE));
    await engine.propagate();
    for (const node of [auth, other]) {
      expect(await codeOf(node, text, [ONE])).toBe('wrong_audience');
      expect(await codeOf(node, text, [TWO])).toBe('valid');
      expect(await codeOf(node, text, [ONE, TWO])).toBe('valid');
    }
    // Allowed by now, but not what the token says.
    expect(await codeOf(auth, text, [THREE])).toBe('wrong_audience');
  });

  test('without a policy its audiences are those of the service, before and after a policy was set', async () => {
    await using engine = await openTestEngine({ audience: [ONE, TWO] });
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create(INPUT);
    const exchange = await auth.tokens.exchange({ key });
    const text = exchange.issued ? exchange.token.token : '';
    expect(await codeOf(auth, text, [ONE])).toBe('valid');
    await auth.keys.update(apiKey.id, jwtFor('ES256', THREE));
    expect(await codeOf(auth, text, [ONE])).toBe('wrong_audience');
    await auth.keys.update(apiKey.id, { jwt: null });
    expect(await codeOf(auth, text, [ONE])).toBe('valid');
  });

  test('after the algorithm was changed, the earlier tokens are refused', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create({ ...INPUT, ...jwtFor('ES256', ONE) });
    const issue = async (): Promise<string> => {
      const exchange = await auth.tokens.exchange({ key });
      return exchange.issued ? exchange.token.token : '';
    };
    const before = await issue();
    expect(await codeOf(auth, before, [ONE])).toBe('valid');
    await auth.keys.update(apiKey.id, jwtFor('RS256', ONE));
    const after = await issue();
    expect(await codeOf(auth, before, [ONE])).toBe('expired');
    expect(await codeOf(auth, after, [ONE])).toBe('valid');
  });

  test.each([0, 1, 500, 999])(
    'tokens of a secret that was replaced at .%i of a second are refused on every node, and those of the new one accepted',
    async (ms) => {
      for (const algorithm of ['ES256', 'HS256'] as const) {
        await using engine = await openTestEngine();
        const { auth, clock } = engine;
        const input = { ...INPUT, ...jwtFor(algorithm, ONE) };
        const once = { idempotencyKey: 'once' };
        clock.advance(1_000 - (clock.now() % 1_000) + ms);
        const { apiKey } = await auth.keys.create(input, once);
        const target = { tenantId: 'default', keyId: apiKey.id };
        const texts: string[] = [];
        for (let turn = 0; turn < 3; turn += 1) {
          // Issued without the key, which is thereby not used.
          texts.push((await auth.tokens.issue(target)).token);
          await auth.keys.create(input, once);
        }
        texts.push((await auth.tokens.issue(target)).token);
        const other = await engine.openAgain();
        for (const node of [auth, other]) {
          const codes = [];
          for (const text of texts) codes.push(await codeOf(node, text, [ONE]));
          const dead = algorithm === 'ES256' ? 'revoked' : 'unknown';
          expect(codes, algorithm).toEqual([dead, dead, dead, 'valid']);
        }
      }
    },
  );

  test('a token of the version before a replaced one is accepted: its secret has not changed', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id, token: text } = await token(engine);
    const once = { idempotencyKey: 'once' };
    await auth.rotation.rotate(id, { overlap: '1h' }, once);
    await auth.rotation.rotate(id, { overlap: '1h' }, once);
    expect(await auth.tokens.verify({ token: text })).toMatchObject({ valid: true, key: { version: 1 } });
  });
});
