/**
 * The key pairs that sign for the service: made, sealed, loaded, published. All of them are in memory, since they are
 * few; they are loaded anew when the log says that one was added or retired.
 */
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { Conditional } from '../commands/run-command.ts';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import { type AuditContext, type AuditEventAbout, newEvent } from '../domain/event.ts';
import { evolveSigningKey, type SigningKeyRecord } from '../domain/signing-key.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventNotice, Ledger, RowChange } from '../events/ledger.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import type { SigningKeyRow } from '../schema/signing-key-row.ts';
import { jwkThumbprint, type VerificationKey } from './jws.ts';
import type { SigningKeyRows } from './signing-key-rows.ts';
import { algorithmOfKey } from './verification-key.ts';

export interface SigningKey {
  readonly record: SigningKeyRecord;
  readonly privateKey: KeyObject;
  readonly verification: VerificationKey;
}

type SigningKeyEvent = AuditEventAbout<'signing_key'>;

/** What is committed, and the record that it is about as it is then. */
export interface SigningKeyChange extends Conditional {
  readonly changes: readonly RowChange[];
  readonly events: readonly [SigningKeyEvent, ...SigningKeyEvent[]];
  readonly record: SigningKeyRecord;
}

/** Made on the first start. The first is the default: small, fast to sign, and every verifier has it. */
export const SIGNING_ALGORITHMS: readonly AsymmetricAlgorithm[] = ['ES256', 'Ed25519', 'RS256'];
/** RFC 7518 section 3.3 asks for 2048 at least; 3072 matches the strength of the other two (NIST SP 800-57). */
const RSA_MODULUS_BITS = 3_072;

/** All that verify are in memory, and all are read at once: of those that a caller can add, none pushes another out. */
export const SIGNING_KEYS_OF_ONE_ALGORITHM_MAX = 32;

export class SigningKeyring implements Follower {
  readonly #rows: SigningKeyRows;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #sealer: Sealer;
  readonly #clock: Clock;
  readonly #onQuarantine: (error: PantheonError) => void;
  #byKid: ReadonlyMap<string, SigningKey> = new Map();
  /** Rows that do not open: nothing can be said of what they signed. */
  #quarantined: ReadonlyMap<string, PantheonError> = new Map();
  /** Loads that were begun, and the latest begun of those that ended: one that was overtaken must not undo the other. */
  #loadsBegun = 0;
  #loadsEnded = 0;

  constructor(deps: {
    readonly rows: SigningKeyRows;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly sealer: Sealer;
    readonly clock: Clock;
    /** Told once of each signing key whose row does not open. */
    readonly onQuarantine?: (error: PantheonError) => void;
  }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#sealer = deps.sealer;
    this.#clock = deps.clock;
    this.#onQuarantine = deps.onQuarantine ?? (() => {});
  }

  /** Loads what is stored, and makes what is missing. */
  async start(by: AuditContext): Promise<void> {
    await this.load();
    const missing = SIGNING_ALGORITHMS.filter((algorithm) => this.#newest(algorithm) === null);
    await Promise.all(missing.map(async (algorithm) => this.commit(await this.decideAdd(algorithm, by))));
  }

  /** The key that signs with this algorithm now. */
  signer(algorithm: AsymmetricAlgorithm): SigningKey {
    const newest = this.#newest(algorithm);
    if (newest === null)
      throw new PantheonError('signing_secret_unavailable', { detail: `There is no ${algorithm} signing key.` });
    return newest;
  }

  /**
   * The key with this `kid`, unless it was retired: then nothing it signed is accepted (I7).
   *
   * @throws PantheonError `key_quarantined` when its row does not open: that is no verdict on what it signed.
   */
  verifier(kid: string): VerificationKey | null {
    const found = this.#byKid.get(kid);
    if (found !== undefined) return found.record.retiredAt !== null ? null : found.verification;
    const error = this.#quarantined.get(kid);
    if (error !== undefined) throw error;
    return null;
  }

  /** The record of the key with this `kid`; null: there is none, or it does not open. */
  recordOf(kid: string): SigningKeyRecord | null {
    return this.#byKid.get(kid)?.record ?? null;
  }

  /** The public keys (RFC 7517), newest first. */
  jwks(): { readonly keys: readonly JsonObject[] } {
    return {
      keys: this.active().map((record) => ({
        ...record.publicJwk,
        kid: record.kid,
        use: 'sig',
        alg: record.algorithm,
      })),
    };
  }

  /** Those that verify, newest first. */
  active(): readonly SigningKeyRecord[] {
    const records = [...this.#byKid.values()].map(({ record }) => record);
    return records.filter(({ retiredAt }) => retiredAt === null).sort((one, other) => other.createdAt - one.createdAt);
  }

  /** What makes a key pair. It signs once that is committed; older ones still verify until they are retired. */
  async decideAdd(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange> {
    const ofAlgorithm = this.active().filter((record) => record.algorithm === algorithm);
    if (ofAlgorithm.length >= SIGNING_KEYS_OF_ONE_ALGORITHM_MAX) {
      const detail = `There are ${ofAlgorithm.length} signing keys of this algorithm: retire one that signs nothing any more.`;
      throw new PantheonError('not_allowed', { field: 'algorithm', detail });
    }
    const { publicKey, privateKey } = await generatePair(algorithm);
    const publicJwk = publicKey.export({ format: 'jwk' }) as JsonObject;
    const kid = jwkThumbprint(publicJwk);
    const after = { algorithm, publicJwk };
    const event = newEvent('signing_key.created', { ...this.#where(kid), before: null, after }, by);
    const record = evolveSigningKey(null, event);
    const sealed = await this.#sealer.seal(contextOf(kid), privateKey.export({ format: 'der', type: 'pkcs8' }));
    const change: RowChange = { kind: 'insert', table: 'signing_keys', row: { ...toRow(record), sealed } };
    return { changes: [change], events: [event], record };
  }

  /**
   * What ends a key pair: every token that it signed is dead at once. The last one of its algorithm gets a successor in the
   * same commit, so that there is always one that signs.
   */
  async decideRetire(current: SigningKeyRecord, by: AuditContext): Promise<SigningKeyChange> {
    const { kid, algorithm } = current;
    const isOther = ({ record }: SigningKey): boolean => record.kid !== kid && record.algorithm === algorithm;
    const successor = [...this.#byKid.values()].some(isOther) ? null : await this.decideAdd(algorithm, by);
    const event = newEvent('signing_key.retired', { ...this.#where(kid), before: null, after: null }, by);
    const record = evolveSigningKey(current, event);
    const change: RowChange = {
      kind: 'update',
      table: 'signing_keys',
      where: { kid },
      set: { retired_at: record.retiredAt, revision: record.revision },
      expectedRevision: current.revision,
    };
    return {
      changes: [...(successor?.changes ?? []), change],
      events: successor === null ? [event] : [...successor.events, event],
      record,
    };
  }

  /** @throws PantheonError `conflict`. */
  async commit({ changes, events, preconditions = [] }: SigningKeyChange): Promise<void> {
    try {
      await this.#ledger.commit({ changes, preconditions, events: await this.#events.toRows(events) });
    } catch (error) {
      // Somebody else was faster, or the outcome is unknown. What the store says when it is asked now does not matter more.
      await this.load().catch(() => {});
      throw error;
    }
    await this.load();
  }

  /** Whether there is one that signs with this algorithm. */
  hasSigner(algorithm: AsymmetricAlgorithm): boolean {
    return this.#newest(algorithm) !== null;
  }

  apply(notice: EventNotice): void | Promise<void> {
    if (notice.subjectType === 'signing_key') return this.load();
  }

  reset(): Promise<void> {
    return this.load();
  }

  #newest(algorithm: AsymmetricAlgorithm): SigningKey | null {
    let newest: SigningKey | null = null;
    for (const key of this.#byKid.values()) {
      const usable = key.record.algorithm === algorithm && key.record.retiredAt === null;
      if (usable && (newest === null || key.record.createdAt >= newest.record.createdAt)) newest = key;
    }
    return newest;
  }

  /** Reads them anew. */
  async load(): Promise<void> {
    this.#loadsBegun += 1;
    const begun = this.#loadsBegun;
    const rows = await this.#rows.all();
    const opened = await Promise.all(rows.map((row) => this.#openOrName(row)));
    if (begun < this.#loadsEnded) return;
    this.#loadsEnded = begun;
    const before = this.#quarantined;
    this.#byKid = new Map(opened.flatMap((one) => ('error' in one ? [] : [[one.record.kid, one]])));
    this.#quarantined = new Map(opened.flatMap((one) => ('error' in one ? [[one.kid, one.error]] : [])));
    for (const [kid, error] of this.#quarantined) if (!before.has(kid)) this.#onQuarantine(error);
  }

  /** One damaged row must not stop the others, nor the feed that has this loaded. */
  async #openOrName(row: SigningKeyRow): Promise<SigningKey | { readonly kid: string; readonly error: PantheonError }> {
    try {
      return await this.#open(row);
    } catch (error) {
      if (!(error instanceof PantheonError && error.code === 'key_quarantined')) throw error;
      return { kid: row.kid, error };
    }
  }

  /** A pair that was opened before is kept: its private key never changes. */
  async #open(row: SigningKeyRow): Promise<SigningKey> {
    const { kid } = row;
    const known = this.#byKid.get(kid);
    if (known !== undefined) return { ...known, record: fromRow(row, known.record) };
    const der = await this.#sealer.open(contextOf(kid), row.sealed);
    const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    // What is published and verified with comes from the sealed private half, so that a changed row brings in no key.
    const key = createPublicKey(privateKey);
    const publicJwk = key.export({ format: 'jwk' }) as JsonObject;
    const algorithm = algorithmOfKey(key);
    const isSame = jwkThumbprint(publicJwk) === kid && algorithm === row.algorithm;
    if (!isSame || algorithm === null || algorithm === 'HS256')
      throw new PantheonError('key_quarantined', { detail: `Signing key ${kid} is not what it says.` });
    return { record: fromRow(row, { algorithm, publicJwk }), privateKey, verification: { algorithm, key } };
  }

  #where(kid: string): { readonly at: Instant; readonly tenantId: string; readonly subjectId: string } {
    return { at: this.#clock.now(), tenantId: SYSTEM_TENANT, subjectId: kid };
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

function contextOf(kid: string): EncryptionContext {
  return { table: 'signing_keys', column: 'sealed', tenantId: SYSTEM_TENANT, rowId: kid, version: 0 };
}

function toRow(record: SigningKeyRecord): Omit<SigningKeyRow, 'sealed'> {
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

function fromRow(row: SigningKeyRow, key: Pick<SigningKeyRecord, 'algorithm' | 'publicJwk'>): SigningKeyRecord {
  return {
    kid: row.kid,
    algorithm: key.algorithm,
    publicJwk: key.publicJwk,
    createdAt: row.created_at,
    retiredAt: row.retired_at,
    revision: row.revision,
  };
}
