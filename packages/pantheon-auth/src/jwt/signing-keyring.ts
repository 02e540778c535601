/**
 * The signing keys of the service: creates, seals, loads and publishes them. All are in memory, because they are few,
 * and are reloaded after an event that adds or retires one.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import type { Conditional } from '../commands/run-command.ts';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import type { AuditEventAbout } from '../domain/event.ts';
import { canBeRaised, type StoredRevision } from '../domain/revision.ts';
import type { SigningKeyRecord } from '../domain/signing-key.ts';
import { signerAt } from '../domain/signing-key-schedule.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventNotice, Ledger, RowChange } from '../events/ledger.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { PantheonError } from '../foundation/errors.ts';
import { LoadOrder } from '../foundation/load-order.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import { type AsStored, undamaged } from '../schema/as-stored.ts';
import type { SigningKeyRow } from '../schema/signing-key-row.ts';
import { jwkThumbprint, type VerificationKey } from './jws.ts';
import type { SigningKeyRows } from './signing-key-rows.ts';
import { algorithmOfKey } from './verification-key.ts';

export interface SigningKey {
  readonly record: SigningKeyRecord;
  readonly privateKey: KeyObject;
  readonly verification: VerificationKey;
}

/** A signing key whose row is damaged. */
interface QuarantinedSigner {
  readonly kid: string;
  readonly error: PantheonError;
  readonly publicKey: VerificationKey | null;
  /** As far as the row tells, except its algorithm, which is that of the public key. */
  readonly record: UncheckedSigner;
}

/** A signing key that can be retired, possibly damaged. */
export interface UncheckedSigner extends Omit<SigningKeyRecord, 'algorithm' | 'revision'> {
  /** Null: it is damaged, and its public key too, so that it may be of any algorithm. */
  readonly algorithm: AsymmetricAlgorithm | null;
  /** As it is stored, also if it is damaged: the row is changed only if it still has it. */
  readonly revision: StoredRevision;
}

type SigningKeyEvent = AuditEventAbout<'signing_key'>;

/** When to ask again while none may sign: a new one waits for some minutes. */
const SECONDS_PER_MINUTE = 60;

/** Made on the first start. The first is the default: small, fast to sign, and every verifier has it. */
export const SIGNING_ALGORITHMS: readonly AsymmetricAlgorithm[] = ['ES256', 'Ed25519', 'RS256'];

export function isSigningAlgorithm(value: unknown): value is AsymmetricAlgorithm {
  return SIGNING_ALGORITHMS.some((one) => one === value);
}

/** What is committed, and the record that it is about as it is then. */
export interface SigningKeyChange<About extends UncheckedSigner = SigningKeyRecord> extends Conditional {
  readonly changes: readonly RowChange[];
  readonly events: readonly [SigningKeyEvent, ...SigningKeyEvent[]];
  readonly record: About;
}

/** A retired signing key: its algorithm, null if its public key does not tell, and when it was retired. */
export interface RetiredSigner {
  readonly algorithm: AsymmetricAlgorithm | null;
  readonly retiredAt: Instant;
}

export class SigningKeyring implements Follower {
  readonly #rows: SigningKeyRows;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #sealer: Sealer;
  readonly #clock: Clock;
  readonly #onQuarantine: (error: PantheonError) => void;
  #byKid: ReadonlyMap<string, SigningKey> = new Map();
  /** Those of them that verify, newest first. */
  #records: readonly SigningKeyRecord[] = [];
  /** Rows that do not open: nothing can be said of what they signed. */
  #quarantined: ReadonlyMap<string, QuarantinedSigner> = new Map();
  readonly #loads = new LoadOrder();

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

  /** @throws PantheonError `signing_key_unavailable` while none may sign with this algorithm. */
  signer(algorithm: AsymmetricAlgorithm): SigningKey {
    const signer = signerAt(this.#records, algorithm, this.#clock.now());
    const found = signer === null ? undefined : this.#byKid.get(signer.kid);
    if (found !== undefined) return found;
    const detail = `No ${algorithm} signing key may sign now.`;
    throw new PantheonError('signing_key_unavailable', { detail, retryAfterSeconds: SECONDS_PER_MINUTE });
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
    const damaged = this.#quarantined.get(kid);
    if (damaged !== undefined) throw damaged.error;
    return null;
  }

  /**
   * The public key of a damaged signing key, to deny tokens that it did not sign: otherwise anyone who knows the `kid` gets
   * a 503 for an unsigned token. Null: the signing key is not damaged, or its public key is damaged too.
   */
  publicKeyOfDamaged(kid: string): VerificationKey | null {
    return this.#quarantined.get(kid)?.publicKey ?? null;
  }

  /** The record of the signing key with this `kid`; null: there is none, or it is damaged. */
  recordOf(kid: string): SigningKeyRecord | null {
    return this.#byKid.get(kid)?.record ?? null;
  }

  /**
   * Those that can be retired, damaged ones included: a damaged one would sign again as soon as its row is restored. That
   * is also so for one whose time of retirement is damaged, because the right one may be none. What the row of a damaged
   * one says is not checked; its algorithm is not taken from it.
   */
  unretired(): readonly UncheckedSigner[] {
    return [...this.#records, ...this.damaged()];
  }

  /** One that is retired, as far as its public key tells what it was. Null: there is none with this `kid`. */
  async retired(kid: string): Promise<RetiredSigner | null> {
    const row = typeof kid === 'string' ? await this.#rows.find(kid) : null;
    // With a damaged time of retirement it may not have been retired: it is one of `unretired`.
    if (typeof row?.retired_at !== 'number') return null;
    return { algorithm: algorithmNamed(row), retiredAt: row.retired_at };
  }

  /** The damaged ones among them. */
  damaged(): readonly UncheckedSigner[] {
    return [...this.#quarantined.values()].map(({ record }) => record);
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
    return this.#records;
  }

  /** @throws PantheonError `conflict`. */
  async commit({ changes, events, preconditions = [] }: Omit<SigningKeyChange, 'record'>): Promise<void> {
    try {
      await this.#ledger.commit({ changes, preconditions, events: await this.#events.toRows(events) });
    } catch (error) {
      // After a conflict or an unknown outcome the signing keys are reloaded. An error of that reload is ignored in
      // favour of the first.
      await this.load().catch(() => {});
      throw error;
    }
    // The change is committed, so an error of the reload is ignored: the feed reloads with the event.
    await this.load().catch(() => {});
  }

  apply(notice: EventNotice): void | Promise<void> {
    if (notice.subjectType === 'signing_key') return this.load();
  }

  reset(): Promise<void> {
    return this.load();
  }

  /** Reads them anew. */
  async load(): Promise<void> {
    const load = this.#loads.begin();
    const rows = await this.#rows.all();
    const opened = await Promise.all(rows.map((row) => this.#openOrName(row)));
    if (!this.#loads.accepts(load)) return;
    const before = this.#quarantined;
    this.#byKid = new Map(opened.flatMap((one) => ('error' in one ? [] : [[one.record.kid, one]])));
    this.#records = [...this.#byKid.values()]
      .map(({ record }) => record)
      .filter(({ retiredAt }) => retiredAt === null)
      .sort((one, other) => other.createdAt - one.createdAt);
    this.#quarantined = new Map(opened.flatMap((one) => ('error' in one ? [[one.kid, one]] : [])));
    for (const [kid, { error }] of this.#quarantined) if (!before.has(kid)) this.#onQuarantine(error);
  }

  /** A damaged row must not prevent loading the others, nor stop the event feed, which calls this. */
  async #openOrName(row: AsStored<SigningKeyRow>): Promise<SigningKey | QuarantinedSigner> {
    try {
      return await this.#open(row);
    } catch (error) {
      if (!(error instanceof PantheonError && error.code === 'key_quarantined')) throw error;
      const publicKey = publicKeyNamed(row.kid, row.public_jwk);
      return { kid: row.kid, error, publicKey, record: uncheckedFromRow(row) };
    }
  }

  /** A signing key that was already opened is reused, because its private key never changes. */
  async #open(stored: AsStored<SigningKeyRow>): Promise<SigningKey> {
    const { kid } = stored;
    const row = undamaged<SigningKeyRow>(stored);
    if (row === null || !canBeRaised(row.revision))
      throw new PantheonError('key_quarantined', {
        detail: `A number in the row of signing key ${kid} is out of range.`,
      });
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
}

/** Not that of the row: it decides which signing keys end when this one is retired as compromised. */
function algorithmNamed({ kid, public_jwk }: Pick<SigningKeyRow, 'kid' | 'public_jwk'>): AsymmetricAlgorithm | null {
  const algorithm = publicKeyNamed(kid, public_jwk)?.algorithm;
  return isSigningAlgorithm(algorithm) ? algorithm : null;
}

/** The key of this JWK, if the `kid` is its thumbprint. */
function publicKeyNamed(kid: string, jwk: unknown): VerificationKey | null {
  try {
    const publicJwk = JSON.parse(String(jwk)) as JsonObject;
    if (jwkThumbprint(publicJwk) !== kid) return null;
    const key = createPublicKey({ key: publicJwk, format: 'jwk' });
    const algorithm = algorithmOfKey(key);
    return algorithm === null ? null : { algorithm, key };
  } catch {
    return null;
  }
}

export function contextOf(kid: string): EncryptionContext {
  return { table: 'signing_keys', column: 'sealed', tenantId: SYSTEM_TENANT, rowId: kid, version: 0 };
}

function uncheckedFromRow(row: AsStored<SigningKeyRow>): UncheckedSigner {
  const { created_at: createdAt, signs_from: signsFrom, retired_at: retiredAt, revision } = row;
  return {
    kid: row.kid,
    algorithm: algorithmNamed(row),
    publicJwk: {},
    // Before all others, so that it counts as stored beside every one of them that is compromised.
    createdAt: typeof createdAt === 'number' ? createdAt : 0,
    signsFrom: typeof signsFrom === 'number' ? signsFrom : null,
    retiredAt: typeof retiredAt === 'number' ? retiredAt : null,
    revision,
  };
}

function fromRow(
  row: SigningKeyRow,
  key: { readonly algorithm: AsymmetricAlgorithm; readonly publicJwk: JsonObject },
): SigningKeyRecord {
  return {
    kid: row.kid,
    algorithm: key.algorithm,
    publicJwk: key.publicJwk,
    createdAt: row.created_at,
    signsFrom: row.signs_from,
    retiredAt: row.retired_at,
    revision: row.revision,
  };
}
