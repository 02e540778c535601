/**
 * The public key (JWK, RFC 7517) that a holder gives to a key so that the service can rotate it: the next key string is
 * encrypted to it (JWE, RFC 7516), and nobody else can read it.
 */
import {
  constants,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  publicEncrypt,
} from 'node:crypto';
import type { JsonObject } from '../foundation/encoding.ts';
import { invariant } from '../foundation/errors.ts';

/** Members of a private key (RFC 7518 section 6, RFC 8037 section 2). */
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'] as const;
const RSA_MODULUS_BITS_MIN = 2_048;
/** Larger ones take longer to encrypt to than they are worth. */
const RSA_MODULUS_BITS_MAX = 4_096;
const RSA_EXPONENT = 65_537n;
/** The `kid` is a label of the holder. It is copied into the header of the JWE. */
const KID_LENGTH_MAX = 128;
const KID = /^[\x21-\x7e]+$/;

/** A kind of key: its members, and the key management algorithm of a JWE to it (RFC 7518 section 4.1). */
interface Kind {
  readonly members: readonly string[];
  readonly alg: 'RSA-OAEP-256' | 'ECDH-ES';
}

const KINDS: Readonly<Record<string, Kind>> = {
  RSA: { members: ['kty', 'n', 'e'], alg: 'RSA-OAEP-256' },
  'EC P-256': { members: ['kty', 'crv', 'x', 'y'], alg: 'ECDH-ES' },
  'OKP X25519': { members: ['kty', 'crv', 'x'], alg: 'ECDH-ES' },
};

/** Labels that JWKs carry and that are not kept. */
const IGNORED_MEMBERS = ['use', 'key_ops', 'alg', 'ext'] as const;

export type RecipientJwkResult =
  | { readonly ok: true; readonly jwk: JsonObject }
  | { readonly ok: false; readonly why: string };

/** Checks a public key and returns the members to store, in their one canonical form. */
export function parseRecipientJwk(value: Readonly<Record<string, unknown>>): RecipientJwkResult {
  if (PRIVATE_MEMBERS.some((name) => Object.hasOwn(value, name)))
    return refused('It contains a private key. Send the public members only, and replace this key pair.');
  const kind = kindOf(value);
  if (kind === null) return refused('Use an RSA key, an EC key on P-256, or an OKP key on X25519.');
  const { kid } = value;
  const known = [...kind.members, ...IGNORED_MEMBERS, 'kid'];
  if (!Object.keys(value).every((name) => known.includes(name)))
    return refused(`Allowed members: ${kind.members.join(', ')}, kid (use, key_ops, alg and ext are ignored).`);
  if (kid !== undefined && !(typeof kid === 'string' && kid.length <= KID_LENGTH_MAX && KID.test(kid)))
    return refused(`kid: 1 to ${KID_LENGTH_MAX} printable ASCII characters.`);
  const members = Object.fromEntries(kind.members.map((name) => [name, value[name]]));
  const key = publicKeyOf(members);
  if (key === null) return refused('It is not a valid public key.');
  const weakness = weaknessOf(key) ?? (isUsable(key) ? null : 'Nothing can be encrypted to this key.');
  if (weakness !== null) return refused(weakness);
  return { ok: true, jwk: { ...(key.export({ format: 'jwk' }) as JsonObject), ...(kid !== undefined && { kid }) } };
}

/** Encrypts a text to a key that {@link parseRecipientJwk} accepted, as a compact JWE. */
export async function encryptTo(jwk: JsonObject, text: string): Promise<string> {
  const { kid, ...members } = jwk;
  const kind = kindOf(members);
  const key = publicKeyOf(members);
  invariant(kind !== null && key !== null, 'a stored recipient key is a public key');
  // Loaded here, because few installations use it.
  const { CompactEncrypt } = await import('jose/jwe/compact/encrypt');
  return new CompactEncrypt(Buffer.from(text, 'utf8'))
    .setProtectedHeader({ alg: kind.alg, enc: 'A256GCM', ...(typeof kid === 'string' && { kid }) })
    .encrypt(key);
}

function kindOf({ kty, crv }: Readonly<Record<string, unknown>>): Kind | null {
  const name = crv === undefined ? kty : `${String(kty)} ${String(crv)}`;
  return typeof name === 'string' && Object.hasOwn(KINDS, name) ? (KINDS[name] ?? null) : null;
}

/** Null: it is none. The point of an EC key is checked to be on its curve. */
function publicKeyOf(members: Readonly<Record<string, unknown>>): KeyObject | null {
  if (!Object.values(members).every((member) => typeof member === 'string')) return null;
  try {
    return createPublicKey({ key: members as Record<string, string>, format: 'jwk' });
  } catch {
    return null;
  }
}

function weaknessOf(key: KeyObject): string | null {
  const { modulusLength = 0, publicExponent } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'rsa') {
    const hasAllowedSize = modulusLength >= RSA_MODULUS_BITS_MIN && modulusLength <= RSA_MODULUS_BITS_MAX;
    const isStrong = hasAllowedSize && publicExponent === RSA_EXPONENT;
    return isStrong ? null : `An RSA key has ${RSA_MODULUS_BITS_MIN} to ${RSA_MODULUS_BITS_MAX} bits and e = 65537.`;
  }
  return null;
}

/**
 * Tries it: an RSA key with an even modulus has the right size and cannot be encrypted to, and with an X25519 point of low
 * order the shared secret would be the same for everybody, which OpenSSL refuses to compute (RFC 7748 section 6.1).
 */
function isUsable(publicKey: KeyObject): boolean {
  try {
    if (publicKey.asymmetricKeyType === 'rsa') {
      const padding = constants.RSA_PKCS1_OAEP_PADDING;
      publicEncrypt({ key: publicKey, padding, oaepHash: 'sha256' }, Buffer.alloc(TRIAL_BYTES));
    } else if (publicKey.asymmetricKeyType === 'x25519') {
      diffieHellman({ privateKey: generateKeyPairSync('x25519').privateKey, publicKey });
    } else {
      diffieHellman({ privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, publicKey });
    }
    return true;
  } catch {
    return false;
  }
}

/** As long as the key of A256GCM. */
const TRIAL_BYTES = 32;

function refused(why: string): RecipientJwkResult {
  return { ok: false, why };
}
