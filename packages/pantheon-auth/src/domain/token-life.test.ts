import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Instant, SECOND_MS } from '../foundation/clock.ts';
import type { KeyVersion } from './key.ts';
import { audiencesOf, endOfToken, endOfVersion, issuedFrom } from './token-life.ts';

const START: Instant = Date.UTC(2030, 0, 1);
const instant = fc.integer({ min: START, max: START + 20_000 });
const version = (createdAt: Instant): KeyVersion => ({ version: 1, createdAt, acceptedUntil: null });
const token = (issuedAt: Instant, kind: 'access' | 'key_signed' = 'access') =>
  ({ kind, algorithm: kind === 'access' ? 'ES256' : 'HS256', issuedAt }) as const;

/** As the issuer dates one: in whole seconds. */
const dated = (at: Instant): Instant => Math.floor(at / SECOND_MS) * SECOND_MS;

test('a token with the date that the issuer gives it is valid, whatever was revoked or replaced in the same second', () => {
  fc.assert(
    fc.property(instant, instant, fc.option(instant), (now, createdAt, tokensNotBefore) => {
      const record = { jwt: null, tokensNotBefore };
      const issuedAt = dated(Math.max(now, issuedFrom(record, version(createdAt))));
      expect(endOfToken(token(issuedAt), record, version(createdAt))).toBeNull();
    }),
  );
});

test('a token that was issued before all tokens were revoked is refused, to the same millisecond', () => {
  fc.assert(
    fc.property(instant, fc.nat(10_000), (at, later) => {
      const record = { jwt: null, tokensNotBefore: at + later };
      expect(endOfToken(token(dated(at)), record, version(START))).toEqual({ code: 'revoked' });
      const ofKey = { ...record, jwt: { algorithm: 'HS256', audience: [], customClaims: {}, ttlSeconds: 60 } } as const;
      expect(endOfToken(token(dated(at), 'key_signed'), ofKey, version(START))).toEqual({ code: 'revoked' });
    }),
  );
});

test('an access token from a second before the secret of its version was created is refused', () => {
  fc.assert(
    fc.property(instant, fc.nat(10_000), (at, later) => {
      const record = { jwt: null, tokensNotBefore: null };
      // A replaced secret is dated with the beginning of a later second.
      const replacedAt = dated(at + later) + SECOND_MS;
      expect(endOfToken(token(dated(at)), record, version(replacedAt))).toEqual({ code: 'revoked' });
    }),
  );
});

test.each(['RS256', 'Ed25519', 'HS256'] as const)(
  'an access token of an algorithm from before the policy named %s is refused',
  (algorithm) => {
    const jwt = { algorithm, audience: [], customClaims: {}, ttlSeconds: 60 };
    expect(endOfToken(token(START), { jwt, tokensNotBefore: null }, version(START))).toEqual({ code: 'expired' });
  },
);

test('audiences are those of the policy, or those of the service if it names none', () => {
  const jwt = { algorithm: 'ES256', customClaims: {}, ttlSeconds: 60 } as const;
  expect(audiencesOf(null, ['service'])).toEqual(['service']);
  expect(audiencesOf({ ...jwt, audience: [] }, ['service'])).toEqual(['service']);
  expect(audiencesOf({ ...jwt, audience: ['api'] }, ['service'])).toEqual(['api']);
});

test('a version ends with its overlap or with its key, whichever is first', () => {
  const versions = [version(START), { version: 2, createdAt: START, acceptedUntil: START + 5 }];
  expect(endOfVersion({ expiresAt: null, versions }, 1)).toBeNull();
  expect(endOfVersion({ expiresAt: START + 9, versions }, 1)).toBe(START + 9);
  expect(endOfVersion({ expiresAt: START + 9, versions }, 2)).toBe(START + 5);
  expect(endOfVersion({ expiresAt: START + 1, versions }, 2)).toBe(START + 1);
  expect(endOfVersion({ expiresAt: null, versions }, 3)).toBeNull();
});
