/** The attacker's workshop: tokens of any form, signed with any key, and what a thief of data and master key can open. */
import { createHmac, createPrivateKey, hkdfSync, type KeyObject, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { parseKey } from 'pantheon-auth';
import { secretBytes } from '../../packages/pantheon-auth/src/api-keys/key-generator.ts';
import { systemClock } from '../../packages/pantheon-auth/src/foundation/clock.ts';
import { Envelope } from '../../packages/pantheon-auth/src/kms/envelope.ts';
import { LocalKms } from '../../packages/pantheon-auth/src/kms/local-kms.ts';
import { parseMasterKey } from '../../packages/pantheon-auth/src/kms/master-key.ts';
import type { Database } from '../../packages/pantheon-auth/src/storage/database.ts';
import { openSqlite } from '../../packages/pantheon-auth/src/storage/sqlite/sqlite.ts';

/** Base64url of text, of bytes, or of a value as JSON. */
export function b64(value: unknown): string {
  const bytes = Buffer.isBuffer(value) ? value : Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
  return bytes.toString('base64url');
}

export type Sign = (signingInput: Buffer) => Buffer;

/** A compact token of whatever is given. Text stands for itself, so that it need not be JSON. */
export function forge(header: unknown, payload: unknown, signer: Sign | Buffer): string {
  const input = `${b64(header)}.${b64(payload)}`;
  const signature = Buffer.isBuffer(signer) ? signer : signer(Buffer.from(input, 'latin1'));
  return `${input}.${signature.toString('base64url')}`;
}

export function hmac(secret: string | Buffer): Sign {
  return (input) => createHmac('sha256', secret).update(input).digest();
}

export function asymmetric(algorithm: string, key: KeyObject): Sign {
  return (input) => sign(algorithm === 'Ed25519' ? null : 'sha256', input, { key, dsaEncoding: 'ieee-p1363' });
}

/** The parts of a token. */
export function takeApart(token: string): { header: Record<string, unknown>; payload: Record<string, unknown> } {
  const [header, payload] = token
    .split('.', 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>);
  return { header: header ?? {}, payload: payload ?? {} };
}

/** What a holder derives from its key, written down again from `docs/key-format.md` and RFC 5869. */
export function holderSecret(key: string): Buffer {
  const parsed = parseKey(key);
  if (parsed === null) throw new Error('not a key');
  return Buffer.from(hkdfSync('sha256', secretBytes(parsed), parsed.id, 'pantheon/hs256/v1', 32));
}

/** Who has both the data and a master key opens what is sealed there with our own code. */
export async function withStolenData<T>(
  stolen: { readonly databaseFile: string; readonly masterKey: Buffer },
  work: (db: Database, envelope: Envelope) => Promise<T>,
): Promise<T> {
  const db = await openSqlite({ path: stolen.databaseFile, clock: systemClock });
  try {
    const kms = new LocalKms(stolen.masterKey);
    return await work(db, new Envelope({ kms, rows: db.dataKeys, clock: systemClock }));
  } finally {
    await db.close();
  }
}

/** The private keys of the signing ones by algorithm, so that claims can be attacked behind a signature that holds. */
export function privateKeysOf(engine: {
  readonly databaseFile: string;
  readonly dataDir: string;
}): Promise<Record<string, { readonly kid: string; readonly key: KeyObject }>> {
  const masterKey = masterKeyOf(engine.dataDir);
  return withStolenData({ databaseFile: engine.databaseFile, masterKey }, async (db, envelope) => {
    const keys: Record<string, { readonly kid: string; readonly key: KeyObject }> = {};
    for (const row of await db.signingKeys.all()) {
      if (row['signs_from'] === null) continue;
      const kid = String(row['kid']);
      const place = { table: 'signing_keys', column: 'sealed', tenantId: 'system', rowId: kid, version: 0 };
      const der = await envelope.open(place, row['sealed'] as Uint8Array);
      keys[String(row['algorithm'])] = { kid, key: createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }) };
    }
    return keys;
  });
}

export function masterKeyOf(dataDir: string): Buffer {
  return parseMasterKey(readFileSync(join(dataDir, 'master.key'), 'latin1'));
}

/** A row as SQLite gives it. */
export type Row = Record<string, unknown>;

/** The attacker's own connection to the file. */
export function bySql<T>(file: string, work: (db: DatabaseSync) => T): T {
  const db = new DatabaseSync(file);
  try {
    return work(db);
  } finally {
    db.close();
  }
}
