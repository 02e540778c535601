/**
 * Decides the changes of signing keys: creating, rotating and retiring them. Which of them signs at a given time is
 * decided in `domain/signing-key-schedule.ts`; `signing-keyring.ts` commits each change.
 */
import { generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import { type AuditContext, newEvent } from '../domain/event.ts';
import { evolveSigningKey, type SigningKeyRecord } from '../domain/signing-key.ts';
import {
  maySignFrom,
  PUBLISHED_BEFORE_USE_MS,
  signerAt,
  standbyOf,
  stateOf,
  unusedFrom,
} from '../domain/signing-key-schedule.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { RowChange } from '../events/ledger.ts';
import type { Clock, Instant } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import type { Sealer } from '../kms/encryption-context.ts';
import type { SigningKeyRow } from '../schema/signing-key-row.ts';
import { jwkThumbprint } from './jws.ts';
import { contextOf, SIGNING_ALGORITHMS, type SigningKeyChange, type SigningKeyring } from './signing-keyring.ts';

/** RFC 7518 section 3.3 asks for 2048 at least; 3072 matches the strength of the other two (NIST SP 800-57). */
const RSA_MODULUS_BITS = 3_072;

/**
 * All signing keys that are not retired are in memory, so their number has a bound. Beyond it a rotation is refused.
 */
export const SIGNING_KEYS_OF_ONE_ALGORITHM_MAX = 32;

export class SigningKeyChanges {
  readonly #keyring: SigningKeyring;
  readonly #sealer: Sealer;
  readonly #clock: Clock;

  constructor(deps: { readonly keyring: SigningKeyring; readonly sealer: Sealer; readonly clock: Clock }) {
    this.#keyring = deps.keyring;
    this.#sealer = deps.sealer;
    this.#clock = deps.clock;
  }

  /**
   * Loads the stored signing keys and creates the missing ones: for each algorithm one that signs, at once because no
   * verifier can have cached public keys of it yet, and a standby key.
   */
  async start(by: AuditContext): Promise<void> {
    await this.#keyring.load();
    const made = await Promise.all(
      SIGNING_ALGORITHMS.map(async (algorithm) => {
        const missing = await Promise.all([
          ...(this.#willSign(algorithm) ? [] : [this.#pairOf(algorithm, this.#clock.now(), by)]),
          ...(standbyOf(this.#keyring.active(), algorithm) === null ? [this.#pairOf(algorithm, null, by)] : []),
        ]);
        if (missing.length > 0) await this.#keyring.commit(together(missing));
        return missing.length > 0;
      }),
    );
    // A commit ignores a failing reload. A start must not.
    if (made.includes(true)) await this.#keyring.load();
  }

  /**
   * The change by which the standby key starts to sign: at once if it has been published for long enough, otherwise
   * when it has. A new standby key is created. Null: an earlier rotation is still pending.
   */
  async decideRotate(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange | null> {
    const records = this.#keyring.active();
    const now = this.#clock.now();
    if (records.some((one) => one.algorithm === algorithm && stateOf(one, records, now) === 'next')) return null;
    this.#assertRoom(algorithm);
    const standby = standbyOf(records, algorithm);
    const next =
      standby === null
        ? this.#pairOf(algorithm, now + PUBLISHED_BEFORE_USE_MS, by)
        : this.#activation(standby, maySignFrom(standby, now), by);
    return together([await next, await this.#pairOf(algorithm, null, by)]);
  }

  /**
   * The change that retires a key pair, so that every token that it signed is refused at once. If it was signing, the
   * next one replaces it at once, else the standby key, else a new key pair.
   */
  async decideRetire(current: SigningKeyRecord, by: AuditContext): Promise<SigningKeyChange> {
    const { algorithm } = current;
    const now = this.#clock.now();
    const records = this.#keyring.active();
    const retirement = this.#retirement(current, by);
    if (stateOf(current, records, now) !== 'signing') return retirement;
    const next = records.find((one) => one.algorithm === algorithm && stateOf(one, records, now) === 'next');
    const successor = next ?? standbyOf(records, algorithm);
    if (successor !== null) return together([retirement, this.#activation(successor, now, by)]);
    return together([retirement, await this.#pairOf(algorithm, now, by)]);
  }

  /**
   * The change after a private key may have become known to others, and with it those stored beside it: all of the
   * algorithm are retired, and a new key pair signs when it has been published for long enough.
   */
  async decideCompromised(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange> {
    const signsFrom = this.#clock.now() + PUBLISHED_BEFORE_USE_MS;
    const fresh = await Promise.all([this.#pairOf(algorithm, signsFrom, by), this.#pairOf(algorithm, null, by)]);
    const retired = this.#keyring.active().filter((one) => one.algorithm === algorithm);
    return together([...fresh, ...retired.map((one) => this.#retirement(one, by))]);
  }

  /**
   * The change that is due: retires key pairs whose last token has expired, creates a missing standby key, and rotates
   * after `everyMs` (null: never). Returns null if nothing is due.
   */
  async decideUpkeep(
    algorithm: AsymmetricAlgorithm,
    everyMs: number | null,
    by: AuditContext,
  ): Promise<SigningKeyChange | null> {
    const records = this.#keyring.active().filter((one) => one.algorithm === algorithm);
    const now = this.#clock.now();
    const unused = records.filter((one) => (unusedFrom(one, records, now) ?? Number.POSITIVE_INFINITY) <= now);
    const retirements = unused.map((one) => this.#retirement(one, by));
    const standby = standbyOf(records, algorithm);
    if (standby === null) return together([...retirements, await this.#pairOf(algorithm, null, by)]);
    const signer = signerAt(records, algorithm, now);
    const isDue = everyMs !== null && signer !== null && (signer.signsFrom ?? now) + everyMs <= now;
    if (isDue && maySignFrom(standby, now) === now) {
      const rotation = await this.decideRotate(algorithm, by);
      if (rotation !== null) return together([rotation, ...retirements]);
    }
    const [first, ...rest] = retirements;
    return first === undefined ? null : together([first, ...rest]);
  }

  /** Whether one of this algorithm signs, or will sign from a set time on. */
  hasSigner(algorithm: AsymmetricAlgorithm): boolean {
    return this.#willSign(algorithm);
  }

  /** The change that creates a key pair which signs at once. */
  decideAdd(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange> {
    return this.#pairOf(algorithm, this.#clock.now(), by);
  }

  #willSign(algorithm: AsymmetricAlgorithm): boolean {
    return this.#keyring.active().some((one) => one.algorithm === algorithm && one.signsFrom !== null);
  }

  #assertRoom(algorithm: AsymmetricAlgorithm): void {
    const ofAlgorithm = this.#keyring.active().filter((record) => record.algorithm === algorithm);
    if (ofAlgorithm.length < SIGNING_KEYS_OF_ONE_ALGORITHM_MAX) return;
    const detail = `There are ${ofAlgorithm.length} signing keys of this algorithm: retire one whose state is previous.`;
    throw new PantheonError('not_allowed', { field: 'algorithm', detail });
  }

  /** The change that creates a key pair. `signsFrom` null: a standby key. */
  async #pairOf(
    algorithm: AsymmetricAlgorithm,
    signsFrom: Instant | null,
    by: AuditContext,
  ): Promise<SigningKeyChange> {
    const { publicKey, privateKey } = await generatePair(algorithm);
    const publicJwk = publicKey.export({ format: 'jwk' }) as JsonObject;
    const kid = jwkThumbprint(publicJwk);
    const after = { algorithm, publicJwk, signsFrom: signsFrom === null ? null : new Date(signsFrom).toISOString() };
    const event = newEvent('signing_key.created', { ...this.#where(kid), before: null, after }, by);
    const record = evolveSigningKey(null, event);
    const sealed = await this.#sealer.seal(contextOf(kid), privateKey.export({ format: 'der', type: 'pkcs8' }));
    const change: RowChange = { kind: 'insert', table: 'signing_keys', row: { ...toRow(record), sealed } };
    return { changes: [change], events: [event], record };
  }

  #activation(standby: SigningKeyRecord, signsFrom: Instant, by: AuditContext): SigningKeyChange {
    const { kid } = standby;
    const after = { signsFrom: new Date(signsFrom).toISOString() };
    const event = newEvent('signing_key.activated', { ...this.#where(kid), before: null, after }, by);
    const record = evolveSigningKey(standby, event);
    const set = { signs_from: record.signsFrom, revision: record.revision };
    return { changes: [updateOf(standby, set)], events: [event], record };
  }

  #retirement(current: SigningKeyRecord, by: AuditContext): SigningKeyChange {
    const event = newEvent('signing_key.retired', { ...this.#where(current.kid), before: null, after: null }, by);
    const record = evolveSigningKey(current, event);
    const set = { retired_at: record.retiredAt, revision: record.revision };
    return { changes: [updateOf(current, set)], events: [event], record };
  }

  #where(kid: string): { readonly at: Instant; readonly tenantId: string; readonly subjectId: string } {
    return { at: this.#clock.now(), tenantId: SYSTEM_TENANT, subjectId: kid };
  }
}

function updateOf(
  { kid, revision }: SigningKeyRecord,
  set: Partial<Pick<SigningKeyRow, 'signs_from' | 'retired_at' | 'revision'>>,
): RowChange {
  return { kind: 'update', table: 'signing_keys', where: { kid }, set, expectedRevision: revision };
}

/** Several changes as one commit. `record` is that of the first. */
function together(changes: readonly SigningKeyChange[]): SigningKeyChange {
  const [first, ...rest] = changes;
  invariant(first !== undefined, 'there is something to commit');
  return {
    ...first,
    changes: changes.flatMap((one) => one.changes),
    events: [...first.events, ...rest.flatMap((one) => one.events)],
  };
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

function toRow(record: SigningKeyRecord): Omit<SigningKeyRow, 'sealed'> {
  return {
    kid: record.kid,
    tenant_id: SYSTEM_TENANT,
    algorithm: record.algorithm,
    public_jwk: JSON.stringify(record.publicJwk),
    created_at: record.createdAt,
    signs_from: record.signsFrom,
    retired_at: record.retiredAt,
    revision: record.revision,
  };
}
