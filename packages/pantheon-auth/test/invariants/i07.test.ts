import { decodeJwt, decodeProtectedHeader } from 'jose';
import { describe, expect, test } from 'vitest';
import { mintKeyToken } from '../../src/jwt/holder-token.ts';
import type { PantheonAuth } from '../../src/pantheon-auth.ts';
import { ISSUER, openTestEngine, type TestEngine, turn } from '../test-engine.ts';

interface Subject {
  readonly engine: TestEngine;
  readonly other: PantheonAuth;
  readonly id: string;
  readonly token: string;
}

/** What ends a token beside its own expiry. */
const ENDS: Readonly<Record<string, { code: string; end: (subject: Subject) => Promise<unknown> }>> = {
  'its key is revoked': { code: 'revoked', end: ({ engine, id }) => engine.auth.keys.revoke(id) },
  'its key is suspended': { code: 'suspended', end: ({ engine, id }) => engine.auth.keys.suspend(id) },
  'its key expires early': {
    code: 'expired',
    end: async ({ engine, id }) => {
      await engine.auth.keys.update(id, { expiresIn: '5s' });
      engine.clock.advance(5_000);
    },
  },
  'its version is retired': {
    code: 'version_retired',
    end: ({ engine, id }) => engine.auth.rotation.rotate(id, { overlap: 0 }),
  },
  'the overlap of its version ends': {
    code: 'version_retired',
    end: async ({ engine, id }) => {
      await engine.auth.rotation.rotate(id, { overlap: '10s' });
      engine.clock.advance(10_000);
    },
  },
  'it is revoked by its id': {
    code: 'revoked',
    end: ({ engine, id, token }) => {
      const { jti = '', exp = 0 } = decodeJwt(token);
      return engine.auth.tokens.revoke({ tenantId: 'default', keyId: id, tokenId: jti, expiresAt: exp * 1_000 });
    },
  },
  'all of its key are revoked': {
    code: 'revoked',
    end: ({ engine, id }) => engine.auth.tokens.revokeAllOf({ tenantId: 'default', keyId: id }),
  },
  'its tenant is suspended': { code: 'suspended', end: ({ engine }) => engine.auth.tenants.suspend('default') },
  'its key may come from elsewhere only': {
    code: 'ip_not_allowed',
    end: ({ engine, id }) => engine.auth.keys.update(id, { ipAllowlist: ['10.0.0.0/8'] }),
  },
};

const AUDIENCE = [ISSUER];

describe.each(['access', 'key_signed'] as const)('I7: a token (%s) is refused on every node as soon as', (kind) => {
  test.each(Object.entries(ENDS))('%s', async (_name, { code, end }) => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const subject = await made(engine, other, kind);
    const { token } = subject;
    // Seen before, on both.
    for (const auth of [engine.auth, other])
      for (let n = 0; n < 2; n += 1)
        expect(await auth.tokens.verify({ token, audience: AUDIENCE })).toMatchObject({ valid: true });
    await end(subject);
    await engine.propagate();
    const restarted = await engine.openAgain();
    for (const auth of [engine.auth, other, restarted])
      for (let n = 0; n < 2; n += 1)
        expect(await auth.tokens.verify({ token, audience: AUDIENCE })).toMatchObject({
          valid: false,
          denial: { code },
        });
  });
});

test('I7: a token is refused on every node as soon as its signing key is retired', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  const { token } = await made(engine, other, 'access');
  for (const auth of [engine.auth, other]) expect(await auth.tokens.verify({ token })).toMatchObject({ valid: true });
  await engine.auth.tokens.retireSigningKey(decodeProtectedHeader(token).kid ?? '');
  await engine.propagate();
  for (const auth of [engine.auth, other, await engine.openAgain()])
    expect(await auth.tokens.verify({ token })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
});

test('I7: when a key is accepted again, its tokens are too, except those that were ended for good', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  const { id, token } = await made(engine, other, 'access');
  await engine.auth.keys.suspend(id);
  await engine.propagate();
  expect(await other.tokens.verify({ token })).toMatchObject({ denial: { code: 'suspended' } });
  await engine.auth.keys.resume(id);
  await turn();
  engine.clock.advance(1);
  expect(await other.tokens.verify({ token })).toMatchObject({ valid: true });
  await other.tokens.revokeAllOf({ tenantId: 'default', keyId: id });
  await engine.auth.keys.suspend(id);
  await engine.auth.keys.resume(id);
  await engine.propagate();
  for (const auth of [engine.auth, other])
    expect(await auth.tokens.verify({ token })).toMatchObject({ denial: { code: 'revoked' } });
});

async function made(engine: TestEngine, other: PantheonAuth, kind: 'access' | 'key_signed'): Promise<Subject> {
  const jwt = { jwt: { algorithm: kind === 'access' ? ('ES256' as const) : ('HS256' as const), audience: AUDIENCE } };
  const { key, apiKey } = await engine.auth.keys.create({ userId: 'u', name: 'n', permissions: ['docs:read'], ...jwt });
  engine.clock.advance(1);
  const exchange = await engine.auth.tokens.exchange({ key });
  const token =
    kind === 'access'
      ? exchange.issued && exchange.token.token
      : mintKeyToken({ key, issuer: ISSUER, audience: AUDIENCE, permissions: ['docs:read'], clock: engine.clock });
  if (token === false) throw new Error('not issued');
  return { engine, other, id: apiKey.id, token };
}
