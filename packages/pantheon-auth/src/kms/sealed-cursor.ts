/**
 * Opaque cursors of lists, sealed for their tenant and list, so that they cannot be forged, altered or used for another
 * list.
 */
import type { Json } from '../foundation/encoding.ts';
import { decodeBase64url } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { EncryptionContext, Sealer } from './encryption-context.ts';

/** A sealed position is about 100 characters long. */
const CURSOR_LENGTH_MAX = 512;

export class SealedCursors {
  readonly #sealer: Sealer;

  constructor(sealer: Sealer) {
    this.#sealer = sealer;
  }

  async write(list: string, tenantId: string, position: Json): Promise<string> {
    const sealed = await this.#sealer.seal(contextOf(list, tenantId), Buffer.from(JSON.stringify(position), 'utf8'));
    return Buffer.from(sealed).toString('base64url');
  }

  /** @throws PantheonError `invalid_cursor` unless it was created for this list of this tenant. */
  async read(list: string, tenantId: string, cursor: string): Promise<Json> {
    const sealed = cursor.length > CURSOR_LENGTH_MAX ? null : decodeBase64url(cursor);
    if (sealed === null) throw new PantheonError('invalid_cursor', { field: 'cursor' });
    try {
      return JSON.parse((await this.#sealer.open(contextOf(list, tenantId), sealed)).toString('utf8')) as Json;
    } catch (error) {
      if (error instanceof PantheonError && error.code !== 'key_quarantined') throw error;
      throw new PantheonError('invalid_cursor', { field: 'cursor' });
    }
  }
}

function contextOf(list: string, tenantId: string): EncryptionContext {
  return { table: 'cursor', column: list, tenantId, rowId: list, version: 0 };
}
