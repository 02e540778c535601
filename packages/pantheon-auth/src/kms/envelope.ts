/**
 * The form of a sealed value, and what it is bound to: a value opens in the context it was sealed for and nowhere else.
 * Which data key seals, and for how long, is `data-keys.ts`.
 */
import { lengthPrefixed } from '../foundation/encoding.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { ID_LENGTH, ID_PATTERN } from '../foundation/ids.ts';
import { GCM_OVERHEAD_BYTES, gcmOpen, gcmSeal } from './aes-gcm.ts';
import { type DataKey, DataKeys, type DataKeysDeps } from './data-keys.ts';
import type { EncryptionContext, Sealer } from './encryption-context.ts';

/** First byte of a sealed value. A second format gets the next number, and both are read from then on. */
const FORMAT_VERSION = 1;
const FORMAT = 'pantheon/sealed/v1';
const HEADER_BYTES: number = 1 + ID_LENGTH;
/** What sealing adds to a plaintext: version, data key id, IV, tag. */
export const SEALED_OVERHEAD_BYTES: number = HEADER_BYTES + GCM_OVERHEAD_BYTES;
/**
 * Nothing we seal comes near it (metadata is kilobytes). With the seals of one data key it keeps the blocks under one key
 * below 2⁴⁴, where an attacker's advantage against GCM stays near 2⁻⁴⁰.
 */
export const PLAINTEXT_BYTES_MAX: number = 2 ** 20;

/**
 * Seals with AES-256-GCM under the data key of the tenant, as `1 ‖ data key id ‖ IV ‖ ciphertext ‖ tag`. The id in the
 * value picks the data key; no other is ever tried. Row ids appear in errors: they must be public.
 *
 * @throws PantheonError `key_quarantined` for a value, or a data key, that does not open. What the store or the KMS
 * throws when it is out of reach passes through: an outage says nothing about the value.
 */
export class Envelope implements Sealer {
  readonly #dataKeys: DataKeys;

  constructor(deps: DataKeysDeps) {
    this.#dataKeys = new DataKeys(deps);
  }

  async seal(context: EncryptionContext, plaintext: Uint8Array): Promise<Uint8Array> {
    invariant(plaintext.length <= PLAINTEXT_BYTES_MAX, 'what is sealed was bounded by its own rules');
    const dataKey = await this.#dataKeys.forOneSeal(context.tenantId).catch((error: unknown) => {
      throw quarantinedOnMismatch(context, error);
    });
    const body = gcmSeal(dataKey.key, aadOf(context, dataKey.id), plaintext);
    return Buffer.concat([headerOf(dataKey.id), body]);
  }

  async open(context: EncryptionContext, sealed: Uint8Array): Promise<Buffer> {
    // 1. Form. A value that cannot be ours costs no I/O.
    const dataKeyId = dataKeyIdOf(sealed);
    if (dataKeyId === null) throw quarantined(context, 'it has no form that is known here');

    // 2. The data key that the value names, and only if it is this tenant's.
    const dataKey: DataKey | null = await this.#dataKeys.byId(dataKeyId).catch((error: unknown) => {
      throw quarantinedOnMismatch(context, error);
    });
    if (dataKey === null) throw quarantined(context, 'its data key does not exist');
    if (dataKey.tenantId !== context.tenantId) throw quarantined(context, 'its data key is of another tenant');

    // 3. The tag, over the value and its context.
    try {
      return gcmOpen(dataKey.key, aadOf(context, dataKeyId), sealed.subarray(HEADER_BYTES));
    } catch (cause) {
      throw quarantined(context, 'it is not what was sealed here', cause);
    }
  }
}

function headerOf(dataKeyId: string): Buffer {
  invariant(ID_PATTERN.test(dataKeyId), 'a data key id has the form of our ids');
  return Buffer.concat([Buffer.of(FORMAT_VERSION), Buffer.from(dataKeyId, 'latin1')]);
}

/** The data key id in the value, or null when the value cannot be one of ours. */
function dataKeyIdOf(sealed: Uint8Array): string | null {
  if (sealed.length < SEALED_OVERHEAD_BYTES || sealed[0] !== FORMAT_VERSION) return null;
  const id = Buffer.from(sealed.buffer, sealed.byteOffset + 1, ID_LENGTH).toString('latin1');
  return ID_PATTERN.test(id) ? id : null;
}

function aadOf(context: EncryptionContext, dataKeyId: string): Buffer {
  const { table, column, tenantId, rowId, version } = context;
  return lengthPrefixed([FORMAT, table, column, tenantId, rowId, String(version), dataKeyId]);
}

/** At start the canary has opened, so a data key that does not unwrap later is a damaged row and not a wrong master key. */
function quarantinedOnMismatch(context: EncryptionContext, error: unknown): unknown {
  const isMismatch = error instanceof PantheonError && error.code === 'master_key_mismatch';
  return isMismatch ? quarantined(context, 'its data key does not open', error) : error;
}

function quarantined(context: EncryptionContext, why: string, cause?: unknown): PantheonError {
  const { table, column, tenantId, rowId, version } = context;
  const detail = `${table}.${column} of row ${rowId} (version ${version}, tenant ${tenantId}) does not open: ${why}`;
  return new PantheonError('key_quarantined', { detail, cause });
}
