/**
 * Which keys are sound, and for which *one* algorithm each is good. Decided by the key and never by a token, so the
 * public key of one algorithm can never serve as the secret of another (RFC 8725 sections 2.1 and 3.1).
 */
import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import type { AsymmetricAlgorithm, SigningAlgorithm } from '../domain/claims.ts';
import { decodeBase64url, type JsonObject } from '../foundation/encoding.ts';
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

/** The details of a key take 1 % of a verification to read, and never change. */
const algorithms = new WeakMap<KeyObject, AsymmetricAlgorithm>();

/** The one algorithm that a key, public or private, is good for; null when it is too weak or of another kind. */
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

/** What a public JWK of each algorithm looks like. */
const KINDS: Readonly<Record<AsymmetricAlgorithm, { readonly kty: string; readonly crv?: string }>> = {
  RS256: { kty: 'RSA' },
  ES256: { kty: 'EC', crv: 'P-256' },
  Ed25519: { kty: 'OKP', crv: 'Ed25519' },
};

/** The members that make up a public key, in the order in which RFC 7638 section 3.2 hashes them. */
const PUBLIC_MEMBERS: ReadonlyMap<unknown, readonly string[]> = new Map([
  ['EC', ['crv', 'kty', 'x', 'y']],
  ['OKP', ['crv', 'kty', 'x']],
  ['RSA', ['e', 'kty', 'n']],
]);
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'] as const;

/**
 * Takes a public JWK as the verification key of one algorithm; null unless it is a sound key of exactly that kind. One
 * with a private member is refused: whoever sends it around has lost it.
 */
export function importVerificationKey(algorithm: AsymmetricAlgorithm, jwk: JsonObject): VerificationKey | null {
  const { kty, crv } = KINDS[algorithm];
  const members = publicMembers(jwk);
  if (members === null || members['kty'] !== kty || members['crv'] !== crv) return null;
  if (PRIVATE_MEMBERS.some((name) => Object.hasOwn(jwk, name))) return null;
  if ((jwk['alg'] ?? algorithm) !== algorithm || (jwk['use'] ?? 'sig') !== 'sig') return null;
  if (!(algorithm === 'RS256' ? isSoundRsa(members) : hasSoundCoordinates(members))) return null;
  try {
    const key = createPublicKey({ key: members, format: 'jwk' });
    return algorithmOfKey(key) === algorithm ? { algorithm, key } : null;
  } catch {
    return null; // A point that is not on the curve.
  }
}

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

/** RFC 7518 section 6.2.1.2 and RFC 8037 section 2: 32 bytes, also when they begin with zeros. */
function hasSoundCoordinates({ crv, x = '', y = x }: Record<string, string>): boolean {
  const bytes = decodeBase64url(x);
  if (bytes?.length !== 32 || decodeBase64url(y)?.length !== 32) return false;
  return crv !== 'Ed25519' || !hasSmallOrder(bytes);
}

const ED25519_PRIME = 2n ** 255n - 19n;

/**
 * Whether the point is one of the eight whose signatures anyone can make, or is not written in the one proper way (RFC
 * 8032 section 5.1.3). The orders 1, 2 and 4 have y = 1, -1 and 0; order 8 has y² = -x², which in the equation of the
 * curve gives -121665 y⁴ + 243332 y² - 121666 = 0.
 */
function hasSmallOrder(point: Buffer): boolean {
  const y = BigInt(`0x${Buffer.from(point).reverse().toString('hex')}`) % 2n ** 255n;
  const square = (y * y) % ED25519_PRIME;
  if (y >= ED25519_PRIME || square <= 1n) return true;
  return (-121_665n * square * square + 243_332n * square - 121_666n) % ED25519_PRIME === 0n;
}

/** Enough to tell the fingerprint from chance: a good modulus has it once in 2²⁷. */
const SMALL_PRIMES = [
  ...[3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109],
  ...[113, 127, 131, 137, 139, 149, 151, 157, 163, 167],
] as const;

/** RFC 7518 section 6.3.1: numbers without leading zeros. The modulus is odd, has no small factor, and is none of ROCA's. */
function isSoundRsa({ n = '', e = '' }: Record<string, string>): boolean {
  const [modulus, exponent] = [decodeBase64url(n), decodeBase64url(e)];
  if (modulus === null || exponent === null || !modulus[0] || !exponent[0]) return false;
  if (modulus.length > RSA_BITS_MAX / 8 || exponent.length > 8) return false;
  const number = BigInt(`0x${modulus.toString('hex')}`);
  const residues = SMALL_PRIMES.map((prime) => Number(number % BigInt(prime)));
  if (number % 2n === 0n || residues.includes(0)) return false;
  return !residues.every((residue, at) => isPowerOfRocaGenerator(residue, SMALL_PRIMES[at] ?? 0));
}

/** CVE-2017-15361: those generators chose primes as powers of 65537 modulo many small primes, and so is their product. */
function isPowerOfRocaGenerator(residue: number, prime: number): boolean {
  const generator = 65_537 % prime;
  let power = 1;
  do {
    if (power === residue) return true;
    power = (power * generator) % prime;
  } while (power !== 1);
  return false;
}
