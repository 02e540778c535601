/** The master key held in this process: wraps and unwraps data keys. Where it comes from is `master-key.ts`. */
import { createSecretKey, type KeyObject } from 'node:crypto';
import { lengthPrefixed } from '../foundation/encoding.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { GCM_KEY_BYTES, GCM_OVERHEAD_BYTES, gcmOpen, gcmSeal } from './aes-gcm.ts';
import type { KeyEncryption, WrapContext } from './key-encryption.ts';

/** First byte of a wrapped data key, to distinguish later formats. */
const FORMAT_VERSION = 1;
const FORMAT = 'pantheon/wrapped/v1';

/**
 * Wraps data keys under a master key of 32 bytes. A wrapped key is `1 ‖ IV ‖ ciphertext ‖ tag`, bound to its tenant and
 * its id, so that a row copied to another tenant or id cannot be unwrapped.
 */
export class LocalKms implements KeyEncryption {
  readonly #masterKey: KeyObject;

  /** Copies the key, so the caller may overwrite its own buffer. */
  constructor(masterKey: Uint8Array) {
    invariant(masterKey.length === GCM_KEY_BYTES, 'a master key has 32 bytes');
    this.#masterKey = createSecretKey(masterKey);
  }

  async wrap(dataKey: Uint8Array, context: WrapContext): Promise<Uint8Array> {
    return Buffer.concat([Buffer.of(FORMAT_VERSION), gcmSeal(this.#masterKey, aadOf(context), dataKey)]);
  }

  async unwrap(wrapped: Uint8Array, context: WrapContext): Promise<Buffer> {
    if (wrapped.length < 1 + GCM_OVERHEAD_BYTES || wrapped[0] !== FORMAT_VERSION) {
      throw mismatch(context, 'has an unknown format', undefined);
    }
    try {
      return gcmOpen(this.#masterKey, aadOf(context), wrapped.subarray(1));
    } catch (cause) {
      throw mismatch(context, 'was wrapped by another master key or for another context', cause);
    }
  }
}

function aadOf(context: WrapContext): Buffer {
  return lengthPrefixed([FORMAT, 'data_key', context.tenantId, context.dataKeyId]);
}

function mismatch(context: WrapContext, what: string, cause: unknown): PantheonError {
  const detail = `data key ${context.dataKeyId} of tenant ${context.tenantId} ${what}`;
  return new PantheonError('master_key_mismatch', { detail, cause });
}
