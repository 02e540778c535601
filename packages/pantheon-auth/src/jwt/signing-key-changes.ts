/**
 * Decides the changes of signing keys: creating, rotating and retiring them. Which of them signs at a given time is
 * decided in `domain/signing-key-schedule.ts`; `signing-keyring.ts` commits each change.
 */
import { generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { runAsProcess } from '../commands/run-command.ts';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import { type AuditContext, newEvent } from '../domain/event.ts';
import { evolveSigningKey, retiredSigningKey, type SigningKeyRecord } from '../domain/signing-key.ts';
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
import { type Clock, type Instant, MINUTE_MS } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import type { Sealer } from '../kms/encryption-context.ts';
import type { SigningKeyRow } from '../schema/signing-key-row.ts';
import { jwkThumbprint } from './jws.ts';
import {
  contextOf,
  SIGNING_ALGORITHMS,
  type SigningKeyChange,
  type SigningKeyring,
  type UncheckedSigner,
} from './signing-keyring.ts';

/** RFC 7518 section 3.3 asks for 2048 at least; 3072 matches the strength of the other two (NIST SP 800-57). */
const RSA_MODULUS_BITS = 3_072;

/**
 * All signing keys that are not retired are in memory, so their number has a bound. Beyond it a rotation is refused.
 */
export const SIGNING_KEYS_OF_ONE_ALGORITHM_MAX = 32;

/** Key pairs that were made for the same change as a retirement are older than it by the time it takes to make them. */
const MADE_BEFORE_COMMIT_MS: number = MINUTE_MS;

export class SigningKeyChanges {
  readonly #keyring: SigningKeyring;
  readonly #sealer: Sealer;
  readonly #clock: Clock;

  constructor(deps: { readonly keyring: SigningKeyring; readonly sealer: Sealer; readonly clock: Clock }) {
    this.#keyring = deps.keyring;
    this.#sealer = deps.sealer;
    this.#clock = deps.clock;
  }

  /** Loads the stored signing keys and replaces the missing ones: for each algorithm one that signs, and a standby key. */
  async start(by: AuditContext): Promise<void> {
    await this.#keyring.load();
    await Promise.all(
      SIGNING_ALGORITHMS.map((algorithm) =>
        runAsProcess(by, {
          load: async () => {},
          decide: async () => {
            const missing = await this.#missing(algorithm, by);
            return missing.length === 0 ? null : together(missing);
          },
          // After a conflict it reloads: another process that starts at the same time has used the standby key.
          commit: (change) => this.#keyring.commit(change),
        }),
      ),
    );
    // A commit ignores a failing reload. A start must not.
    await this.#keyring.load();
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
   * The change that retires a key pair, so that every token that it signed is refused at once. If it was signing, its
   * successor replaces it at once.
   */
  async decideRetire(current: UncheckedSigner, by: AuditContext): Promise<SigningKeyChange<UncheckedSigner>> {
    const retirement = this.#retirement(current, by);
    const active = this.#keyring.active();
    // A damaged one does not sign.
    const record = active.find(({ kid }) => kid === current.kid) ?? null;
    if (record === null || stateOf(record, active, this.#clock.now()) !== 'signing') return retirement;
    return together<UncheckedSigner>([retirement, await this.#successor(record.algorithm, by)]);
  }

  /**
   * The change after a private key may have become known to others, and with it those stored beside it: all of the
   * algorithm are retired, and a new key pair signs when it has been published for long enough. `retiredAt`: when the one
   * in question was retired, if it was before: then only those that were stored at that time. Null: none is left to retire.
   */
  async decideCompromised(
    algorithm: AsymmetricAlgorithm,
    retiredAt: Instant | null,
    by: AuditContext,
  ): Promise<SigningKeyChange<UncheckedSigner> | null> {
    const storedBefore = (retiredAt ?? Number.POSITIVE_INFINITY) - MADE_BEFORE_COMMIT_MS;
    // A damaged one of an unknown algorithm may be of this one.
    const candidates = this.#keyring.unretired().filter((one) => one.algorithm === algorithm || one.algorithm === null);
    const exposed = candidates.filter((one) => one.createdAt < storedBefore);
    if (retiredAt !== null && exposed.length === 0) return null;
    const retirements = exposed.map((one) => this.#retirement(one, by));
    const remains = candidates.some((one) => !exposed.includes(one) && one.signsFrom !== null);
    if (remains) return together<UncheckedSigner>(retirements);
    const signsFrom = this.#clock.now() + PUBLISHED_BEFORE_USE_MS;
    const fresh = await Promise.all([this.#pairOf(algorithm, signsFrom, by), this.#pairOf(algorithm, null, by)]);
    return together<UncheckedSigner>([...fresh, ...retirements]);
  }

  /**
   * The change that is due: replaces what is missing, retires key pairs whose last token has expired, and rotates after
   * `everyMs` (null: never). Returns null if nothing is due.
   */
  async decideUpkeep(
    algorithm: AsymmetricAlgorithm,
    everyMs: number | null,
    by: AuditContext,
  ): Promise<SigningKeyChange | null> {
    const records = this.#ofAlgorithm(algorithm);
    const now = this.#clock.now();
    const unused = records.filter((one) => (unusedFrom(one, records, now) ?? Number.POSITIVE_INFINITY) <= now);
    const missing = await this.#missing(algorithm, by);
    const isDue = missing.length === 0 && this.#isRotationDue(algorithm, everyMs);
    const rotation = isDue ? await this.decideRotate(algorithm, by) : null;
    const due = [
      ...missing,
      ...(rotation === null ? [] : [rotation]),
      ...unused.map((one) => this.#retirement(one, by)),
    ];
    return due.length === 0 ? null : together(due);
  }

  /** Without room it is not due: what this run retires makes room for the next. */
  #isRotationDue(algorithm: AsymmetricAlgorithm, everyMs: number | null): boolean {
    const records = this.#ofAlgorithm(algorithm);
    const now = this.#clock.now();
    const signer = signerAt(records, algorithm, now);
    const standby = standbyOf(records, algorithm);
    if (everyMs === null || signer === null || standby === null) return false;
    if (records.length >= SIGNING_KEYS_OF_ONE_ALGORITHM_MAX) return false;
    return (signer.signsFrom ?? now) + everyMs <= now && maySignFrom(standby, now) === now;
  }

  /** The change after which one of this algorithm signs; null: one does, or will from a set time on. */
  async decideSigner(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange | null> {
    return this.#hasSigner(algorithm) ? null : together(await this.#missing(algorithm, by));
  }

  /** Changes that bring back the signing key and the standby key, those of the two that are missing. */
  async #missing(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange[]> {
    if (!this.#hasSigner(algorithm))
      return [await this.#successor(algorithm, by), await this.#pairOf(algorithm, null, by)];
    const isMissing = standbyOf(this.#keyring.active(), algorithm) === null;
    return isMissing ? [await this.#pairOf(algorithm, null, by)] : [];
  }

  /**
   * The change by which another key pair signs at once: the next one, else the standby key, else a new one. It is better
   * that some verifiers with cached public keys do not know it yet than that no token can be issued for minutes.
   */
  async #successor(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<SigningKeyChange> {
    const records = this.#ofAlgorithm(algorithm);
    const now = this.#clock.now();
    const next = records.find((one) => stateOf(one, records, now) === 'next') ?? standbyOf(records, algorithm);
    return next === null ? this.#pairOf(algorithm, now, by) : this.#activation(next, now, by);
  }

  #hasSigner(algorithm: AsymmetricAlgorithm): boolean {
    return this.#ofAlgorithm(algorithm).some((one) => one.signsFrom !== null);
  }

  #ofAlgorithm(algorithm: AsymmetricAlgorithm): readonly SigningKeyRecord[] {
    return this.#keyring.active().filter((one) => one.algorithm === algorithm);
  }

  #assertRoom(algorithm: AsymmetricAlgorithm): void {
    const { length } = this.#ofAlgorithm(algorithm);
    if (length < SIGNING_KEYS_OF_ONE_ALGORITHM_MAX) return;
    const detail = `There are ${length} signing keys of this algorithm: retire one whose state is previous.`;
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

  #retirement<About extends UncheckedSigner>(current: About, by: AuditContext): SigningKeyChange<About> {
    const event = newEvent('signing_key.retired', { ...this.#where(current.kid), before: null, after: null }, by);
    const record = retiredSigningKey(current, event.at);
    const set = { retired_at: record.retiredAt, revision: record.revision };
    return { changes: [updateOf(current, set)], events: [event], record };
  }

  #where(kid: string): { readonly at: Instant; readonly tenantId: string; readonly subjectId: string } {
    return { at: this.#clock.now(), tenantId: SYSTEM_TENANT, subjectId: kid };
  }
}

function updateOf(
  { kid, revision }: Pick<UncheckedSigner, 'kid' | 'revision'>,
  set: Partial<Pick<SigningKeyRow, 'signs_from' | 'retired_at' | 'revision'>>,
): RowChange {
  return { kind: 'update', table: 'signing_keys', where: { kid }, set, expectedRevision: revision };
}

/** Several changes as one commit. `record` is that of the first. */
function together<About extends UncheckedSigner = SigningKeyRecord>(
  changes: readonly SigningKeyChange<About>[],
): SigningKeyChange<About> {
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
