/**
 * Which keys are sound, and for which *one* algorithm each is good. Decided by the key and never by a token, so the
 * public key of one algorithm can never serve as the secret of another (RFC 8725 sections 2.1 and 3.1).
 */
import { createHash, type KeyObject } from 'node:crypto';
import type { AsymmetricAlgorithm, SigningAlgorithm } from '../domain/claims.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { invariant } from '../foundation/errors.ts';

/** RFC 7518 section 3.2: a key at least as long as the hash. */
export const SECRET_BYTES_MIN = 32;
/** RFC 7518 section 3.3. */
export const RSA_BITS_MIN = 2048;
/** Verifying grows with the square of it, and a signature must fit in a token. */
export const RSA_BITS_MAX = 8192;
/** Smaller exponents have a history of forgeries (Bleichenbacher 2006), and with 1 every text signs itself. */
const RSA_EXPONENT_MIN = 65_537n;

/** One key and the one algorithm it may be used with. */
export interface VerificationKey {
  readonly algorithm: SigningAlgorithm;
  readonly key: KeyObject;
}

/** Cached, because reading the details of a key takes 1 % of a verification and they never change. */
const algorithms = new WeakMap<KeyObject, AsymmetricAlgorithm>();

/** The one algorithm that a public or private key may be used with; null when it is too weak or of another kind. */
export function algorithmOfKey(key: KeyObject): SigningAlgorithm | null {
  if (key.type === 'secret') return (key.symmetricKeySize ?? 0) >= SECRET_BYTES_MIN ? 'HS256' : null;
  const known = algorithms.get(key);
  if (known !== undefined) return known;
  const algorithm = asymmetricAlgorithmOf(key);
  if (algorithm !== null) algorithms.set(key, algorithm);
  return algorithm;
}

function asymmetricAlgorithmOf(key: KeyObject): AsymmetricAlgorithm | null {
  const { modulusLength = 0, publicExponent = 0n, namedCurve } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'ed25519':
      return 'Ed25519';
    case 'ec':
      return namedCurve === 'prime256v1' ? 'ES256' : null;
    case 'rsa': {
      const isSized = modulusLength >= RSA_BITS_MIN && modulusLength <= RSA_BITS_MAX;
      return isSized && publicExponent >= RSA_EXPONENT_MIN && publicExponent % 2n === 1n ? 'RS256' : null;
    }
    default:
      return null;
  }
}

/** The members that make up a public key, in the order in which RFC 7638 section 3.2 hashes them. */
const PUBLIC_MEMBERS: ReadonlyMap<unknown, readonly string[]> = new Map([
  ['EC', ['crv', 'kty', 'x', 'y']],
  ['OKP', ['crv', 'kty', 'x']],
  ['RSA', ['e', 'kty', 'n']],
]);

/**
 * The name of a public key that is the same wherever it is computed (RFC 7638, SHA-256, base64url).
 *
 * @throws when it is not a public EC, OKP or RSA key.
 */
export function jwkThumbprint(jwk: JsonObject): string {
  const members = publicMembers(jwk);
  invariant(members !== null, 'a thumbprint is taken of a public key');
  return createHash('sha256').update(JSON.stringify(members)).digest('base64url');
}

function publicMembers(jwk: JsonObject): Record<string, string> | null {
  const members: Record<string, string> = {};
  for (const name of PUBLIC_MEMBERS.get(jwk['kty']) ?? []) {
    const value = jwk[name];
    if (typeof value !== 'string') return null;
    members[name] = value;
  }
  return 'kty' in members ? members : null;
}
