/**
 * Which of the key pairs signs, and when. A pair is published before it signs, so that nobody who has cached the public keys
 * meets a token that they cannot verify, and is kept after it has signed until its last token has expired.
 *
 * Of each algorithm there is one that signs, one that is published and waits (the standby), and those that signed before.
 */
import { type Instant, MINUTE_MS, SECOND_MS } from '../foundation/clock.ts';
import { ACCESS_TOKEN_LIFETIME_MAX_SECONDS, type AsymmetricAlgorithm } from './claims.ts';
import type { SigningKeyRecord } from './signing-key.ts';

/** How long the public keys may be cached (`max-age` of the JWKS). */
export const JWKS_MAX_AGE_SECONDS = 300;

/** From publication to the first use. The minute is for nodes that read of it a second later, and for clocks apart. */
export const PUBLISHED_BEFORE_USE_MS: number = JWKS_MAX_AGE_SECONDS * SECOND_MS + MINUTE_MS;

/** From the last use on, for as long as a token lives. The minute is for clocks apart, and for tokens dated a second ahead. */
export const KEPT_AFTER_USE_MS: number = ACCESS_TOKEN_LIFETIME_MAX_SECONDS * SECOND_MS + MINUTE_MS;

/**
 * `standby`: published, and signs when it is needed. `next`: signs from a moment that is set. `signing`: signs now.
 * `previous`: signed before, and verifies until its last token has expired. `retired`: verifies nothing any more.
 */
export type SigningKeyState = 'standby' | 'next' | 'signing' | 'previous' | 'retired';

/** The pair that signs at this moment: of those that may, the one that may since the latest. Null: none may. */
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

/** The newest pair that is published and waits. */
export function standbyOf(
  records: readonly SigningKeyRecord[],
  algorithm: AsymmetricAlgorithm,
): SigningKeyRecord | null {
  const waiting = records.filter(
    (record) => record.algorithm === algorithm && record.retiredAt === null && record.signsFrom === null,
  );
  return waiting.sort((one, other) => other.createdAt - one.createdAt)[0] ?? null;
}

/** The earliest moment from which a pair may sign that was published then. */
export function maySignFrom({ createdAt }: Pick<SigningKeyRecord, 'createdAt'>, now: Instant): Instant {
  return Math.max(now, createdAt + PUBLISHED_BEFORE_USE_MS);
}

export function stateOf(record: SigningKeyRecord, records: readonly SigningKeyRecord[], now: Instant): SigningKeyState {
  if (record.retiredAt !== null) return 'retired';
  if (record.signsFrom === null) return 'standby';
  if (record.signsFrom > now) return 'next';
  return signerAt(records, record.algorithm, now)?.kid === record.kid ? 'signing' : 'previous';
}

/** From when on nothing that it signed can still be good; null: it signs, or will. */
export function unusedFrom(
  record: SigningKeyRecord,
  records: readonly SigningKeyRecord[],
  now: Instant,
): Instant | null {
  const signer = signerAt(records, record.algorithm, now);
  if (stateOf(record, records, now) !== 'previous' || signer?.signsFrom == null) return null;
  return signer.signsFrom + KEPT_AFTER_USE_MS;
}

/** Whether it took over later. Two that did at the same moment are told apart by when they were made, then by their names. */
function isLater(one: SigningKeyRecord, other: SigningKeyRecord): boolean {
  const [a, b] = [one.signsFrom ?? 0, other.signsFrom ?? 0];
  if (a !== b) return a > b;
  return one.createdAt === other.createdAt ? one.kid > other.kid : one.createdAt > other.createdAt;
}
