/**
 * What becomes of the key pairs that sign for the service: how one is made, when the next one takes over, and how one ends.
 * Which of them signs at a moment is `domain/signing-key-schedule.ts`; each change is committed by `signing-keyring.ts`.
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

/** All that verify are in memory, and all are read at once: of those that a caller can add, none pushes another out. */
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
   * Loads what is stored, and makes what is missing: of each algorithm one that signs, at once because nobody has cached any
   * yet, and one that waits.
   */
  async start(by: AuditContext): Promise<void> {
    await this.#keyring.load();
    await Promise.all(
      SIGNING_ALGORITHMS.map(async (algorithm) => {
        const missing = await Promise.all([
          ...(this.#willSign(algorithm) ? [] : [this.#pairOf(algorithm, this.#clock.now(), by)]),
          ...(standbyOf(this.#keyring.active(), algorithm) === null ? [this.#pairOf(algorithm, null, by)] : []),
        ]);
        if (missing.length > 0) await this.#keyring.commit(together(missing));
      }),
    );
  }

  /**
   * What makes the pair that waits sign: at once when it has been published for long enough, else as soon as it has. Another
   * one takes its place. Null: a rotation is under way.
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
   * What ends a key pair: every token that it signed is dead at once. Where it was the one that signs, the one that waits
   * takes over, or a new one where none waits. `isCompromised`: somebody may know the private key, so whatever lay beside it
   * ends too, and a new pair signs when it has been published for long enough.
   */
  async decideRetire(current: SigningKeyRecord, isCompromised: boolean, by: AuditContext): Promise<SigningKeyChange> {
    const { algorithm, kid } = current;
    const now = this.#clock.now();
    const records = this.#keyring.active();
    const ofAlgorithm = records.filter((one) => one.algorithm === algorithm);
    if (isCompromised) {
      const others = ofAlgorithm.filter((one) => one.kid !== kid);
      const fresh = [this.#pairOf(algorithm, now + PUBLISHED_BEFORE_USE_MS, by), this.#pairOf(algorithm, null, by)];
      return together([
        this.#retirement(current, by),
        ...others.map((one) => this.#retirement(one, by)),
        ...(await Promise.all(fresh)),
      ]);
    }
    const retirement = this.#retirement(current, by);
    if (stateOf(current, records, now) !== 'signing') return retirement;
    const standby = standbyOf(records, algorithm);
    const next = ofAlgorithm.some((one) => stateOf(one, records, now) === 'next');
    if (standby !== null && !next) return together([retirement, this.#activation(standby, now, by)]);
    return next ? retirement : together([retirement, await this.#pairOf(algorithm, now, by)]);
  }

  /**
   * What time makes necessary: pairs whose last token has expired end, there is always one that waits, and after `everyMs`
   * the next one takes over; null: never by itself. Answers null when there is nothing to do.
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

  /** Whether there is one that signs with this algorithm, now or from a moment that is set. */
  hasSigner(algorithm: AsymmetricAlgorithm): boolean {
    return this.#willSign(algorithm);
  }

  /** What makes a pair that signs at once. */
  decideAdd(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange> {
    return this.#pairOf(algorithm, this.#clock.now(), by);
  }

  #willSign(algorithm: AsymmetricAlgorithm): boolean {
    return this.#keyring.active().some((one) => one.algorithm === algorithm && one.signsFrom !== null);
  }

  #assertRoom(algorithm: AsymmetricAlgorithm): void {
    const ofAlgorithm = this.#keyring.active().filter((record) => record.algorithm === algorithm);
    if (ofAlgorithm.length < SIGNING_KEYS_OF_ONE_ALGORITHM_MAX) return;
    const detail = `There are ${ofAlgorithm.length} signing keys of this algorithm: retire one that signs nothing any more.`;
    throw new PantheonError('not_allowed', { field: 'algorithm', detail });
  }

  /** A new pair. `signsFrom` null: it waits. */
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

/** One commit of several changes. It is about the first. */
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
