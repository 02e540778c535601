/**
 * What the record of a key says about a token of it. A token is a statement of the past; what its key says now is held
 * against it each time, so that a token never outlives what it was made from. Pure. Its own claims are `claims.ts`.
 */
import { type Instant, SECOND_MS } from '../foundation/clock.ts';
import type { SigningAlgorithm } from './claims.ts';
import type { PresentedToken } from './credential.ts';
import type { JwtSettings, KeyRecord, KeyVersion } from './key.ts';
import type { Denial } from './verification.ts';

/** Of a key whose policy names none. */
const ALGORITHM_DEFAULT: SigningAlgorithm = 'ES256';

/** The algorithm that signs the tokens of a key with this policy. */
export function algorithmOf(jwt: JwtSettings | null): SigningAlgorithm {
  return jwt?.algorithm ?? ALGORITHM_DEFAULT;
}

/** The audiences that tokens of a key may have: those of its policy, else those of the service. */
export function audiencesOf(jwt: JwtSettings | null, ofService: readonly string[]): readonly string[] {
  return jwt === null || jwt.audience.length === 0 ? ofService : jwt.audience;
}

/**
 * Whether the record ends this token; null: it does not. Audiences are compared by the callers, who know for which one it
 * is presented.
 */
export function endOfToken(
  token: Pick<PresentedToken, 'kind' | 'algorithm' | 'issuedAt'>,
  record: Pick<KeyRecord, 'jwt' | 'tokensNotBefore'>,
  version: KeyVersion,
): Denial | null {
  const { kind, algorithm, issuedAt } = token;
  // Also the very moment: a token made in it may have been made before. The issuer dates the next ones after it.
  if (record.tokensNotBefore !== null && issuedAt <= record.tokensNotBefore) return { code: 'revoked' };
  // One that the key itself signed is tied to the secret by its `kid`, and dated by the clock of its holder.
  if (kind === 'access' && issuedAt < secondOf(version.createdAt)) return { code: 'revoked' };
  // Not `revoked`, which is final: the policy that this node remembers may be older than the token.
  return algorithm === algorithmOf(record.jwt) ? null : { code: 'expired' };
}

/** The earliest moment that a token of this version may be dated, so that {@link endOfToken} takes it for a new one. */
export function issuedFrom(record: Pick<KeyRecord, 'tokensNotBefore'>, version: KeyVersion | null): Instant {
  const { tokensNotBefore } = record;
  const afterRevocation = tokensNotBefore === null ? 0 : secondOf(tokensNotBefore) + SECOND_MS;
  return Math.max(afterRevocation, version === null ? 0 : secondOf(version.createdAt));
}

/** Tokens are dated in whole seconds. */
function secondOf(instant: Instant): Instant {
  return Math.floor(instant / SECOND_MS) * SECOND_MS;
}
