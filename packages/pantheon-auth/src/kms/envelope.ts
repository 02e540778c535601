/**
 * The format of sealed values and their encryption context: a value can be opened only in the context that it was
 * sealed for. Data keys are in `data-keys.ts`.
 */
import { lengthPrefixed } from '../foundation/encoding.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { ID_LENGTH, ID_PATTERN } from '../foundation/ids.ts';
import { GCM_OVERHEAD_BYTES, gcmOpen, gcmSeal } from './aes-gcm.ts';
import { type DataKey, DataKeys, type DataKeysDeps } from './data-keys.ts';
import type { EncryptionContext, Sealer } from './encryption-context.ts';

/** First byte of a sealed value. A new format would get the next number. */
const FORMAT_VERSION = 1;
const FORMAT = 'pantheon/sealed/v1';
const HEADER_BYTES: number = 1 + ID_LENGTH;
/** What sealing adds to a plaintext: version, data key id, IV, tag. */
export const SEALED_OVERHEAD_BYTES: number = HEADER_BYTES + GCM_OVERHEAD_BYTES;
/**
 * Far larger than any sealed value (metadata is kilobytes). Together with the seals per data key it keeps the blocks
 * under one key below 2⁴⁴, where an attacker's advantage against GCM is about 2⁻⁴⁰.
 */
export const PLAINTEXT_BYTES_MAX: number = 2 ** 20;

/**
 * Seals with AES-256-GCM under the data key of the tenant, as `1 ‖ data key id ‖ IV ‖ ciphertext ‖ tag`. The id in the
 * value selects the data key; no other is tried. Row ids appear in errors, so they must be public.
 *
 * @throws PantheonError `key_quarantined` for a value, or a data key, that cannot be opened. Errors of an unreachable
 * database or KMS are passed on, because they say nothing about the value.
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
    // 1. Format. A malformed value costs no I/O.
    const dataKeyId = dataKeyIdOf(sealed);
    if (dataKeyId === null) throw quarantined(context, 'its format is unknown');

    // 2. The data key named in the value, if it belongs to this tenant.
    const dataKey: DataKey | null = await this.#dataKeys.byId(dataKeyId).catch((error: unknown) => {
      throw quarantinedOnMismatch(context, error);
    });
    if (dataKey === null) throw quarantined(context, 'its data key does not exist');
    if (dataKey.tenantId !== context.tenantId) throw quarantined(context, 'its data key is of another tenant');

    // 3. The authentication tag over the value and its context.
    try {
      return gcmOpen(dataKey.key, aadOf(context, dataKeyId), sealed.subarray(HEADER_BYTES));
    } catch (cause) {
      throw quarantined(context, 'it is not the value that was sealed', cause);
    }
  }
}

function headerOf(dataKeyId: string): Buffer {
  invariant(ID_PATTERN.test(dataKeyId), 'a data key id has the form of our ids');
  return Buffer.concat([Buffer.of(FORMAT_VERSION), Buffer.from(dataKeyId, 'latin1')]);
}

/** The data key id in the value, or null when the value is malformed. */
function dataKeyIdOf(sealed: Uint8Array): string | null {
  if (sealed.length < SEALED_OVERHEAD_BYTES || sealed[0] !== FORMAT_VERSION) return null;
  const id = Buffer.from(sealed.buffer, sealed.byteOffset + 1, ID_LENGTH).toString('latin1');
  return ID_PATTERN.test(id) ? id : null;
}

function aadOf(context: EncryptionContext, dataKeyId: string): Buffer {
  const { table, column, tenantId, rowId, version } = context;
  return lengthPrefixed([FORMAT, table, column, tenantId, rowId, String(version), dataKeyId]);
}

/**
 * The master key was checked at the start, so a data key that cannot be unwrapped later is a damaged row and not a
 * wrong master key.
 */
function quarantinedOnMismatch(context: EncryptionContext, error: unknown): unknown {
  const isMismatch = error instanceof PantheonError && error.code === 'master_key_mismatch';
  return isMismatch ? quarantined(context, 'its data key cannot be opened', error) : error;
}

function quarantined(context: EncryptionContext, why: string, cause?: unknown): PantheonError {
  const { table, column, tenantId, rowId, version } = context;
  const detail = `${table}.${column} of row ${rowId} (version ${version}, tenant ${tenantId}) does not open: ${why}`;
  return new PantheonError('key_quarantined', { detail, cause });
}
