/**
 * The signing keys of the service: creates, seals, loads and publishes them. All are in memory, because they are few,
 * and are reloaded after an event that adds or retires one.
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

/** A change to commit, and the signing key as it is after it. */
export interface SigningKeyChange extends Conditional {
  readonly changes: readonly RowChange[];
  readonly events: readonly [SigningKeyEvent, ...SigningKeyEvent[]];
  readonly record: SigningKeyRecord;
}

/** Created on the first start. The first is the default: small, fast to sign, and supported by every verifier. */
export const SIGNING_ALGORITHMS: readonly AsymmetricAlgorithm[] = ['ES256', 'Ed25519', 'RS256'];
/** RFC 7518 section 3.3 asks for 2048 at least; 3072 matches the strength of the other two (NIST SP 800-57). */
const RSA_MODULUS_BITS = 3_072;

/** The most active signing keys per algorithm, because all are in memory and are read at once. */
export const SIGNING_KEYS_OF_ONE_ALGORITHM_MAX = 32;

export class SigningKeyring implements Follower {
  readonly #rows: SigningKeyRows;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #sealer: Sealer;
  readonly #clock: Clock;
  readonly #onQuarantine: (error: PantheonError) => void;
  #byKid: ReadonlyMap<string, SigningKey> = new Map();
  /** Signing keys whose rows are damaged. Tokens that they signed can be neither accepted nor denied. */
  #quarantined: ReadonlyMap<string, PantheonError> = new Map();
  /**
   * The numbers of the last load begun and of the latest load applied, so that a slower, older load does not replace a
   * newer one.
   */
  #loadsBegun = 0;
  #loadsEnded = 0;

  constructor(deps: {
    readonly rows: SigningKeyRows;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly sealer: Sealer;
    readonly clock: Clock;
    /** Called once for each signing key whose row is damaged. */
    readonly onQuarantine?: (error: PantheonError) => void;
  }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#sealer = deps.sealer;
    this.#clock = deps.clock;
    this.#onQuarantine = deps.onQuarantine ?? (() => {});
  }

  /** Loads the stored signing keys and creates missing ones. */
  async start(by: AuditContext): Promise<void> {
    await this.load();
    const missing = SIGNING_ALGORITHMS.filter((algorithm) => this.#newest(algorithm) === null);
    await Promise.all(missing.map(async (algorithm) => this.commit(await this.decideAdd(algorithm, by))));
  }

  /** The signing key that currently signs with this algorithm. */
  signer(algorithm: AsymmetricAlgorithm): SigningKey {
    const newest = this.#newest(algorithm);
    if (newest === null)
      throw new PantheonError('signing_secret_unavailable', { detail: `There is no ${algorithm} signing key.` });
    return newest;
  }

  /**
   * The verification key with this `kid`; null: unknown or retired, so that nothing it signed is accepted (I7).
   *
   * @throws PantheonError `key_quarantined` when its row is damaged, so that its tokens can be neither accepted nor
   * denied.
   */
  verifier(kid: string): VerificationKey | null {
    const found = this.#byKid.get(kid);
    if (found !== undefined) return found.record.retiredAt !== null ? null : found.verification;
    const error = this.#quarantined.get(kid);
    if (error !== undefined) throw error;
    return null;
  }

  /** The record of the signing key with this `kid`; null: there is none, or it is damaged. */
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

  /** The active signing keys, newest first. */
  active(): readonly SigningKeyRecord[] {
    const records = [...this.#byKid.values()].map(({ record }) => record);
    return records.filter(({ retiredAt }) => retiredAt === null).sort((one, other) => other.createdAt - one.createdAt);
  }

  /** The change that adds a signing key. It signs once committed; older ones verify until they are retired. */
  async decideAdd(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange> {
    const ofAlgorithm = this.active().filter((record) => record.algorithm === algorithm);
    if (ofAlgorithm.length >= SIGNING_KEYS_OF_ONE_ALGORITHM_MAX) {
      const detail = `There are ${ofAlgorithm.length} signing keys of this algorithm: retire one that is no longer needed.`;
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
   * The change that retires a signing key: every token that it signed is invalid at once. Retiring the last one of its
   * algorithm adds a successor in the same commit, so that one always signs.
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
      // After a conflict or an unknown outcome the signing keys are reloaded. An error of that reload is ignored in
      // favour of the first.
      await this.load().catch(() => {});
      throw error;
    }
    await this.load();
  }

  /** Whether a signing key of this algorithm is active. */
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

  /** Reloads the signing keys. */
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

  /** A damaged row must not prevent loading the others, nor stop the event feed, which calls this. */
  async #openOrName(row: SigningKeyRow): Promise<SigningKey | { readonly kid: string; readonly error: PantheonError }> {
    try {
      return await this.#open(row);
    } catch (error) {
      if (!(error instanceof PantheonError && error.code === 'key_quarantined')) throw error;
      return { kid: row.kid, error };
    }
  }

  /** A signing key that was already opened is reused, because its private key never changes. */
  async #open(row: SigningKeyRow): Promise<SigningKey> {
    const { kid } = row;
    const known = this.#byKid.get(kid);
    if (known !== undefined) return { ...known, record: fromRow(row, known.record) };
    const der = await this.#sealer.open(contextOf(kid), row.sealed);
    const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    // The public key is derived from the sealed private key, so that a changed row cannot introduce another key.
    const key = createPublicKey(privateKey);
    const publicJwk = key.export({ format: 'jwk' }) as JsonObject;
    const algorithm = algorithmOfKey(key);
    const isSame = jwkThumbprint(publicJwk) === kid && algorithm === row.algorithm;
    if (!isSame || algorithm === null || algorithm === 'HS256')
      throw new PantheonError('key_quarantined', { detail: `The kid of signing key ${kid} does not match its key.` });
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
