/** AES-256-GCM with the format `IV ‖ ciphertext ‖ tag`. The only file of this folder that uses a cipher. */
import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from 'node:crypto';

export const GCM_KEY_BYTES = 32;
/** 96 bits, the length that GCM uses directly (SP 800-38D section 5.2.1.1). */
const GCM_IV_BYTES = 12;
/** Always the full tag, with its length checked: Node would otherwise accept a tag cut to 4 bytes. */
const GCM_TAG_BYTES = 16;
/** What sealing adds to a plaintext. */
export const GCM_OVERHEAD_BYTES: number = GCM_IV_BYTES + GCM_TAG_BYTES;

const ALGORITHM = 'aes-256-gcm';
const OPTIONS = { authTagLength: GCM_TAG_BYTES } as const;

/**
 * Each IV is newly random, not a counter and not from a pool, so that a restored or cloned machine does not repeat one.
 */
export function gcmSeal(key: KeyObject, aad: Uint8Array, plaintext: Uint8Array): Buffer {
  const iv = randomBytes(GCM_IV_BYTES);
  const cipher = createCipheriv(ALGORITHM, key, iv, OPTIONS).setAAD(aad);
  const ciphertext = cipher.update(plaintext);
  return Buffer.concat([iv, ciphertext, cipher.final(), cipher.getAuthTag()]);
}

/** @throws Error of node:crypto, without details, when the bytes were not sealed under this key and `aad`. */
export function gcmOpen(key: KeyObject, aad: Uint8Array, sealed: Uint8Array): Buffer {
  const tagAt = sealed.length - GCM_TAG_BYTES;
  const decipher = createDecipheriv(ALGORITHM, key, sealed.subarray(0, GCM_IV_BYTES), OPTIONS)
    .setAAD(aad)
    .setAuthTag(sealed.subarray(tagAt));
  const plaintext = decipher.update(sealed.subarray(GCM_IV_BYTES, tagAt));
  decipher.final();
  return plaintext;
}
