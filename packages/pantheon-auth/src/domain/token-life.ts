/**
 * Checks a token against the current record of its key, so that a token is denied after a change of the key that ends
 * it. Pure. The token's own claims are checked in `claims.ts`.
 */
import { earlier, type Instant, SECOND_MS } from '../foundation/clock.ts';
import { isSameJson, type JsonObject } from '../foundation/encoding.ts';
import {
  ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS,
  ACCESS_TOKEN_LIFETIME_MAX_SECONDS,
  KEY_SIGNED_LIFETIME_MAX_SECONDS,
  type SigningAlgorithm,
  withoutReserved,
} from './claims.ts';
import type { PresentedToken } from './credential.ts';
import type { JwtSettings, KeyRecord, KeyVersion } from './key.ts';
import type { Denial } from './verification.ts';

/** For a key whose policy names no algorithm. */
const ALGORITHM_DEFAULT: SigningAlgorithm = 'ES256';

/** The algorithm of tokens with this policy. */
export function algorithmOf(jwt: JwtSettings | null): SigningAlgorithm {
  return jwt?.algorithm ?? ALGORITHM_DEFAULT;
}

/** The audiences that tokens of a key may have: those of its policy, else those of the service. */
export function audiencesOf(jwt: JwtSettings | null, ofService: readonly string[]): readonly string[] {
  return jwt === null || jwt.audience.length === 0 ? ofService : jwt.audience;
}

/** The lifetime of tokens with this policy: the maximum and the default. */
export function lifetimeMaxSeconds(jwt: JwtSettings | null): number {
  const isKeySigned = algorithmOf(jwt) === 'HS256';
  const max = isKeySigned ? KEY_SIGNED_LIFETIME_MAX_SECONDS : ACCESS_TOKEN_LIFETIME_MAX_SECONDS;
  return Math.min(jwt?.ttlSeconds ?? ACCESS_TOKEN_LIFETIME_DEFAULT_SECONDS, max);
}

/**
 * The denial if a token says something of its key that the record does not say, or no longer: a user, custom claims, or a
 * lifetime that its policy does not allow. Null: all of it is so. A custom claim may be a restriction (`read_only: true`),
 * so one that was added ends a token as one that was removed.
 */
export function endOfStatement(
  { kind, subject, issuedAt, expiresAt, customClaims }: Statement,
  { userId, jwt }: Pick<KeyRecord, 'userId' | 'jwt'>,
): Denial | null {
  const isAllowedLifetime = expiresAt - issuedAt <= lifetimeMaxSeconds(jwt) * SECOND_MS;
  // A key-signed token says nothing else of its key: its subject is the id of the key, its claims are those of the record.
  const isSo =
    isAllowedLifetime &&
    (kind === 'key_signed' || (subject === userId && isSameJson(customClaims as JsonObject, claimsOf(jwt))));
  // As for a changed algorithm: the holder exchanges the key again.
  return isSo ? null : { code: 'expired' };
}

function claimsOf(jwt: JwtSettings | null): JsonObject {
  return withoutReserved(jwt?.customClaims ?? {});
}

export type Statement = Pick<PresentedToken, 'kind' | 'subject' | 'issuedAt' | 'expiresAt' | 'customClaims'>;

/** The denial if the record ends this token; otherwise null. The callers check audiences. */
export function endOfToken(
  token: Pick<PresentedToken, 'kind' | 'algorithm' | 'issuedAt'>,
  record: Pick<KeyRecord, 'jwt' | 'tokensNotBefore'>,
  version: KeyVersion,
): Denial | null {
  const { kind, algorithm, issuedAt } = token;
  // Including the same second, in which the token may have been issued before. The issuer dates later tokens after it.
  if (record.tokensNotBefore !== null && issuedAt <= record.tokensNotBefore) return { code: 'revoked' };
  // Not for key-signed tokens, which are bound to the secret by their `kid`, and dated by the holder's clock.
  if (kind === 'access' && issuedAt < secondOf(version.createdAt)) return { code: 'revoked' };
  // Not `revoked`, which needs no confirmation: the cached policy may be older than the token.
  return algorithm === algorithmOf(record.jwt) ? null : { code: 'expired' };
}

/** The earliest `iat` of a token of this version that {@link endOfToken} accepts. */
export function issuedFrom(record: Pick<KeyRecord, 'tokensNotBefore'>, version: KeyVersion | null): Instant {
  const { tokensNotBefore } = record;
  const afterRevocation = tokensNotBefore === null ? 0 : secondOf(tokensNotBefore) + SECOND_MS;
  return Math.max(afterRevocation, version === null ? 0 : secondOf(version.createdAt));
}

/**
 * When the key expires or this version of it ends, whichever is first; null: neither. Nothing that is made with the
 * version lasts longer.
 */
export function endOfVersion(record: Pick<KeyRecord, 'expiresAt' | 'versions'>, version: number): Instant | null {
  const acceptedUntil = record.versions.find((one) => one.version === version)?.acceptedUntil ?? null;
  return earlier(acceptedUntil, record.expiresAt);
}

/** The start of the second, because tokens are dated in whole seconds. */
export function secondOf(instant: Instant): Instant {
  return Math.floor(instant / SECOND_MS) * SECOND_MS;
}
