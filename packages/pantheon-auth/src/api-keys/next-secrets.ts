/**
 * Stores the next key string of a key that the service rotated, encrypted to its recipient, until the holder has used it.
 * Only the recipient can read it. It is sealed as well, so that a row that somebody replaced is detected.
 */
import { createHash } from 'node:crypto';
import type { KeyChange, KeyRecord } from '../domain/key.ts';
import type { RowChange } from '../events/ledger.ts';
import { canonicalJson, isSameJson, type Json, type JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import type { NextSecretRow } from '../schema/next-secret-row.ts';

/** The port for reading next secrets. */
export interface NextSecretRows {
  /** Null: none is stored. */
  find(tenantId: string, keyId: string): Promise<NextSecretRow | null>;
}

/** A next secret. */
export interface NextSecret {
  readonly version: number;
  /** The key string as a compact JWE (RFC 7516). */
  readonly jwe: string;
}

export class NextSecrets {
  readonly #rows: NextSecretRows;
  readonly #sealer: Sealer;

  constructor(deps: { readonly rows: NextSecretRows; readonly sealer: Sealer }) {
    this.#rows = deps.rows;
    this.#sealer = deps.sealer;
  }

  /** @throws PantheonError `key_quarantined` when its row was changed outside of this service. */
  async find(tenantId: string, keyId: string): Promise<NextSecret | null> {
    const row = await this.#rows.find(tenantId, keyId);
    if (row === null) return null;
    const { sealed, ...plain } = row;
    const opened = JSON.parse((await this.#sealer.open(contextOf(plain), sealed)).toString('utf8')) as JsonObject;
    if (opened['row'] !== rowHash(plain) || typeof opened['jwe'] !== 'string')
      throw new PantheonError('key_quarantined', { detail: `Key ${keyId}: its next secret was changed.` });
    return { version: plain.version, jwe: opened['jwe'] };
  }

  /** The row changes of the next secret that belong to this change of the key: delete an outdated one, insert a new one. */
  async changesFor({ record, events }: KeyChange, jwe: string | undefined): Promise<RowChange[]> {
    const where = { key_id: record.id, tenant_id: record.tenantId };
    const isOutdated = events.some(outdatesNextSecret);
    const removal: RowChange[] = isOutdated ? [{ kind: 'delete', table: 'next_secrets', where }] : [];
    if (jwe === undefined) return removal;
    return [...removal, { kind: 'insert', table: 'next_secrets', row: await this.#toRow(record, jwe) }];
  }

  async #toRow(record: KeyRecord, jwe: string): Promise<NextSecretRow> {
    const { id, tenantId, version, revision } = record;
    const plain = { key_id: id, tenant_id: tenantId, version, revision };
    const sealed = JSON.stringify({ row: rowHash(plain), jwe });
    return { ...plain, sealed: await this.#sealer.seal(contextOf(plain), Buffer.from(sealed, 'utf8')) };
  }
}

/**
 * Whether the stored next secret must be deleted: its version is no longer the current one, the recipient has changed, a
 * caller retired the version that may fetch it, or the key was revoked.
 */
function outdatesNextSecret(event: KeyChange['events'][number]): boolean {
  switch (event.type) {
    case 'key.rotated':
    case 'key.rolled_back':
    case 'key.revoked':
    case 'key.version_retired':
    case 'key.secret_replaced':
      return true;
    case 'key.updated':
      return !isSameJson(recipientIn(event.before?.['rotation']), recipientIn(event.after?.['rotation']));
    default:
      return false;
  }
}

function recipientIn(rotation: Json | undefined): Json {
  return (rotation as JsonObject | null | undefined)?.['recipientJwk'] ?? null;
}

function contextOf({ key_id: rowId, tenant_id: tenantId, version }: Omit<NextSecretRow, 'sealed'>): EncryptionContext {
  return { table: 'next_secrets', column: 'sealed', tenantId, rowId, version };
}

function rowHash(plain: Omit<NextSecretRow, 'sealed'>): string {
  return createHash('sha256')
    .update(canonicalJson({ ...plain }))
    .digest('base64');
}
