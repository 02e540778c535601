/**
 * The key pairs that sign for the service: made, sealed, loaded, published. All of them are in memory, since they are
 * few; they are loaded anew when the log says that one was added or retired.
 */
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import type { AuditEvent, Circumstances } from '../domain/event.ts';
import { evolveSigningKey, type SigningKeyRecord } from '../domain/signing-key.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventLog } from '../events/event-log.ts';
import type { EventNotice, Ledger, Row } from '../events/ledger.ts';
import type { Clock } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { newId } from '../foundation/ids.ts';
import type { Place, Sealer } from '../kms/place.ts';
import { jwkThumbprint, type VerificationKey } from './jws.ts';
import type { SigningKeyRows } from './signing-key-rows.ts';

export interface SigningKey {
  readonly record: SigningKeyRecord;
  readonly privateKey: KeyObject;
  readonly verification: VerificationKey;
}

/** Made on the first start. The first is the default: small, fast to sign, and every verifier has it. */
export const SIGNING_ALGORITHMS: readonly AsymmetricAlgorithm[] = ['ES256', 'Ed25519', 'RS256'];
/** RFC 7518 section 3.3 asks for 2048 at least; 3072 matches the strength of the other two (NIST SP 800-57). */
const RSA_MODULUS_BITS = 3_072;

export class SigningKeyring implements Follower {
  readonly #rows: SigningKeyRows;
  readonly #ledger: Ledger;
  readonly #events: EventLog;
  readonly #sealer: Sealer;
  readonly #clock: Clock;
  #byKid: ReadonlyMap<string, SigningKey> = new Map();

  constructor(deps: {
    readonly rows: SigningKeyRows;
    readonly ledger: Ledger;
    readonly events: EventLog;
    readonly sealer: Sealer;
    readonly clock: Clock;
  }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#sealer = deps.sealer;
    this.#clock = deps.clock;
  }

  /** Loads what is stored, and makes what is missing. */
  async start(by: Circumstances): Promise<void> {
    await this.#load();
    const missing = SIGNING_ALGORITHMS.filter((algorithm) => this.#newest(algorithm) === null);
    await Promise.all(missing.map((algorithm) => this.add(algorithm, by)));
  }

  /** The key that signs with this algorithm now. */
  signer(algorithm: AsymmetricAlgorithm): SigningKey {
    const newest = this.#newest(algorithm);
    if (newest === null)
      throw new PantheonError('signing_secret_unavailable', { detail: `There is no ${algorithm} signing key.` });
    return newest;
  }

  /** The key with this `kid`, unless it was retired: then nothing it signed is accepted (I7). */
  verifier(kid: string): VerificationKey | null {
    const found = this.#byKid.get(kid);
    return found === undefined || found.record.retiredAt !== null ? null : found.verification;
  }

  /** The public keys (RFC 7517), newest first. */
  jwks(): { readonly keys: readonly JsonObject[] } {
    const active = [...this.#byKid.values()].filter(({ record }) => record.retiredAt === null);
    active.sort((one, other) => other.record.createdAt - one.record.createdAt);
    return {
      keys: active.map(({ record }) => ({ ...record.publicJwk, kid: record.kid, use: 'sig', alg: record.algorithm })),
    };
  }

  /** Makes a key pair. It signs from now on; older ones still verify until they are retired. */
  async add(algorithm: AsymmetricAlgorithm, by: Circumstances): Promise<SigningKeyRecord> {
    const { publicKey, privateKey } = await generatePair(algorithm);
    const publicJwk = publicKey.export({ format: 'jwk' }) as JsonObject;
    const kid = jwkThumbprint(publicJwk);
    const event = this.#event('signing_key.created', kid, { algorithm, publicJwk }, by);
    const record = evolveSigningKey(null, event);
    const sealed = await this.#sealer.seal(placeOf(kid), privateKey.export({ format: 'der', type: 'pkcs8' }));
    const row = { ...toRow(record), sealed };
    await this.#ledger.commit({
      changes: [{ kind: 'insert', table: 'signing_keys', row }],
      events: await this.#events.toRows([event]),
    });
    await this.#load();
    return record;
  }

  /** Ends a key pair: every token that it signed is dead at once. Twice is success. */
  async retire(kid: string, by: Circumstances): Promise<void> {
    const found = this.#byKid.get(kid);
    if (found === undefined) throw new PantheonError('not_found', { field: 'kid' });
    if (found.record.retiredAt !== null) return;
    const event = this.#event('signing_key.retired', kid, null, by);
    const record = evolveSigningKey(found.record, event);
    const change = {
      kind: 'update',
      table: 'signing_keys',
      where: { kid },
      set: { retired_at: record.retiredAt, revision: record.revision },
      expectedRevision: found.record.revision,
    } as const;
    await this.#ledger.commit({ changes: [change], events: await this.#events.toRows([event]) });
    await this.#load();
  }

  apply(notice: EventNotice): void | Promise<void> {
    if (notice.subjectType === 'signing_key') return this.#load();
  }

  reset(): Promise<void> {
    return this.#load();
  }

  #newest(algorithm: AsymmetricAlgorithm): SigningKey | null {
    let newest: SigningKey | null = null;
    for (const key of this.#byKid.values()) {
      const usable = key.record.algorithm === algorithm && key.record.retiredAt === null;
      if (usable && (newest === null || key.record.createdAt >= newest.record.createdAt)) newest = key;
    }
    return newest;
  }

  async #load(): Promise<void> {
    const rows = await this.#rows.all();
    const keys = await Promise.all(rows.map((row) => this.#open(row)));
    this.#byKid = new Map(keys.map((key) => [key.record.kid, key]));
  }

  /** A pair that was opened before is kept: its private key never changes. */
  async #open(row: Row): Promise<SigningKey> {
    const record = fromRow(row);
    const known = this.#byKid.get(record.kid);
    if (known !== undefined) return { ...known, record };
    const der = await this.#sealer.open(placeOf(record.kid), row['sealed'] as Uint8Array);
    const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    // The public half is taken from the sealed private one, so that a changed row cannot bring in a key of its own.
    const publicKey = createPublicKey(privateKey);
    if (jwkThumbprint(publicKey.export({ format: 'jwk' }) as JsonObject) !== record.kid) {
      throw new PantheonError('key_quarantined', { detail: `Signing key ${record.kid} is not what it says.` });
    }
    return { record, privateKey, verification: { algorithm: record.algorithm, key: publicKey } };
  }

  #event(
    type: 'signing_key.created' | 'signing_key.retired',
    kid: string,
    after: JsonObject | null,
    by: Circumstances,
  ): AuditEvent {
    const subject = { type: 'signing_key', id: kid } as const;
    return { id: newId(), at: this.#clock.now(), tenantId: SYSTEM_TENANT, type, subject, before: null, after, ...by };
  }
}

const generateKeyPairAsync = promisify(generateKeyPair);

function generatePair(algorithm: AsymmetricAlgorithm): Promise<{ publicKey: KeyObject; privateKey: KeyObject }> {
  switch (algorithm) {
    case 'ES256':
      return generateKeyPairAsync('ec', { namedCurve: 'P-256' });
    case 'Ed25519':
      return generateKeyPairAsync('ed25519');
    case 'RS256':
      return generateKeyPairAsync('rsa', { modulusLength: RSA_MODULUS_BITS });
  }
}

function placeOf(kid: string): Place {
  return { table: 'signing_keys', column: 'sealed', tenantId: SYSTEM_TENANT, rowId: kid, version: 0 };
}

function toRow(record: SigningKeyRecord): Row {
  return {
    kid: record.kid,
    tenant_id: SYSTEM_TENANT,
    algorithm: record.algorithm,
    public_jwk: JSON.stringify(record.publicJwk),
    created_at: record.createdAt,
    retired_at: record.retiredAt,
    revision: record.revision,
  };
}

function fromRow(row: Row): SigningKeyRecord {
  return {
    kid: String(row['kid']),
    algorithm: String(row['algorithm']) as AsymmetricAlgorithm,
    publicJwk: JSON.parse(String(row['public_jwk'])) as JsonObject,
    createdAt: Number(row['created_at']),
    retiredAt: row['retired_at'] === null ? null : Number(row['retired_at']),
    revision: Number(row['revision']),
  };
}
