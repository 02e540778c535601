/**
 * Derives the HS256 secret and its `kid` from the secret of an API key. Holder and server compute the same values, so
 * the key itself need not be sent. Uses HKDF-SHA-256 (RFC 5869) with one label per purpose, so neither result reveals
 * the other or the key. The labels are part of the format and never change.
 */
import { hkdfSync } from 'node:crypto';
import { encodeBase62 } from '../foundation/encoding.ts';
import { invariant } from '../foundation/errors.ts';

/**
 * HS256 needs a key at least as long as its hash (RFC 7518 section 3.2); this is also as long as the secret it is
 * derived from.
 */
export const SIGNING_SECRET_BYTES = 32;
const SIGNING_SECRET_LABEL = 'pantheon/hs256/v1';

/**
 * The length of the secret in a key string. With fewer bytes the HS256 secret could be guessed offline from one token.
 */
const KEY_SECRET_BYTES = 32;

const KID_LABEL = 'pantheon/kid/v1';
const KID_SUFFIX_LENGTH = 8;
const KID_SUFFIX_VALUES = 62n ** BigInt(KID_SUFFIX_LENGTH);

/** The HS256 secret of one version of a key. `secretBytes` are the 32 bytes inside the key string. */
export function deriveSigningSecret(secretBytes: Buffer, keyId: string): Buffer {
  return derive(secretBytes, keyId, SIGNING_SECRET_LABEL, SIGNING_SECRET_BYTES);
}

/**
 * The `kid` of one version of a key: `<key id>-<8 characters>`. The characters are the first 8 bytes of the derivation,
 * read as one unsigned big-endian number, modulo 62⁸, in base 62 (`0-9A-Za-z`, big-endian, padded with `0`). With a
 * modulus any language with 64-bit integers can compute it; its bias is below 2⁻¹⁶, which does not matter in a public
 * name. The `kid` distinguishes the versions of one key and is not secret.
 */
export function deriveKid(secretBytes: Buffer, keyId: string): string {
  const number = derive(secretBytes, keyId, KID_LABEL, 8).readBigUInt64BE() % KID_SUFFIX_VALUES;
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(number);
  return `${keyId}-${encodeBase62(bytes, KID_SUFFIX_LENGTH)}`;
}

/** The key id in a `kid` of {@link deriveKid}; null for any other text. */
export function keyIdOfKid(kid: string): { readonly keyId: string; readonly suffix: string } | null {
  const [, keyId, suffix] = KID_OF_A_KEY.exec(kid) ?? [];
  return keyId === undefined || suffix === undefined ? null : { keyId, suffix };
}

const KID_OF_A_KEY = /^([0-9A-Za-z]{16})-([0-9A-Za-z]{8})$/;

function derive(secretBytes: Buffer, keyId: string, label: string, length: number): Buffer {
  invariant(secretBytes.length === KEY_SECRET_BYTES, 'the secret of a key is 32 bytes');
  return Buffer.from(hkdfSync('sha256', secretBytes, keyId, label, length));
}
