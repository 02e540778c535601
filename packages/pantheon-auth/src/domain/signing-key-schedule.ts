/**
 * Which signing key signs, and when. A key pair is published before it signs, so that a verifier with cached public
 * keys can verify every token, and is kept after it has signed until its last token has expired.
 *
 * Each algorithm has one that signs, one that is published and does not sign yet (the standby key), and those that
 * signed before.
 */
import { type Instant, MINUTE_MS, SECOND_MS } from '../foundation/clock.ts';
import { ACCESS_TOKEN_LIFETIME_MAX_SECONDS, type AsymmetricAlgorithm } from './claims.ts';
import type { SigningKeyRecord } from './signing-key.ts';

/** How long the public keys may be cached (`max-age` of the JWKS). */
export const JWKS_MAX_AGE_SECONDS = 300;

/**
 * From publication to the first use. The minute is for nodes that read the new key a second later and for differing
 * clocks.
 */
export const PUBLISHED_BEFORE_USE_MS: number = JWKS_MAX_AGE_SECONDS * SECOND_MS + MINUTE_MS;

/** The longest lifetime of a token, and a minute for differing clocks and for tokens dated a second ahead. */
export const KEPT_AFTER_USE_MS: number = ACCESS_TOKEN_LIFETIME_MAX_SECONDS * SECOND_MS + MINUTE_MS;

/**
 * `standby`: published, and does not sign yet. `next`: signs from `signsFrom` on. `signing`: signs now. `previous`:
 * does not sign any more, and its tokens are accepted until the last has expired. `retired`: its tokens are refused.
 */
export type SigningKeyState = 'standby' | 'next' | 'signing' | 'previous' | 'retired';

/** The key pair that signs now: of those whose `signsFrom` has passed, the one with the latest. Null: there is none. */
export function signerAt(
  records: readonly SigningKeyRecord[],
  algorithm: AsymmetricAlgorithm,
  now: Instant,
): SigningKeyRecord | null {
  let signer: SigningKeyRecord | null = null;
  for (const record of records) {
    if (record.algorithm !== algorithm || record.retiredAt !== null) continue;
    if (record.signsFrom === null || record.signsFrom > now) continue;
    if (signer === null || isLater(record, signer)) signer = record;
  }
  return signer;
}

/** The newest standby key. */
export function standbyOf(
  records: readonly SigningKeyRecord[],
  algorithm: AsymmetricAlgorithm,
): SigningKeyRecord | null {
  const waiting = records.filter(
    (record) => record.algorithm === algorithm && record.retiredAt === null && record.signsFrom === null,
  );
  return waiting.sort((one, other) => other.createdAt - one.createdAt)[0] ?? null;
}

/** The earliest time from which a key pair may sign, so that verifiers with cached public keys have it. */
export function maySignFrom({ createdAt }: Pick<SigningKeyRecord, 'createdAt'>, now: Instant): Instant {
  return Math.max(now, createdAt + PUBLISHED_BEFORE_USE_MS);
}

export function stateOf(record: SigningKeyRecord, records: readonly SigningKeyRecord[], now: Instant): SigningKeyState {
  if (record.retiredAt !== null) return 'retired';
  if (record.signsFrom === null) return 'standby';
  if (record.signsFrom > now) return 'next';
  return signerAt(records, record.algorithm, now)?.kid === record.kid ? 'signing' : 'previous';
}

/** When every token that it signed has expired; null: it signs, or will sign. */
export function unusedFrom(
  record: SigningKeyRecord,
  records: readonly SigningKeyRecord[],
  now: Instant,
): Instant | null {
  const signer = signerAt(records, record.algorithm, now);
  if (stateOf(record, records, now) !== 'previous' || signer?.signsFrom == null) return null;
  return signer.signsFrom + KEPT_AFTER_USE_MS;
}

/** Whether it started to sign later. For equal times `createdAt` decides, then the `kid`, so that all nodes agree. */
function isLater(one: SigningKeyRecord, other: SigningKeyRecord): boolean {
  const [a, b] = [one.signsFrom ?? 0, other.signsFrom ?? 0];
  if (a !== b) return a > b;
  return one.createdAt === other.createdAt ? one.kid > other.kid : one.createdAt > other.createdAt;
}
