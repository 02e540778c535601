/**
 * Lists, rotates and retires signing keys for callers: keys of the system tenant that have the permission, and the
 * process. What a change does is in `signing-key-changes.ts`.
 */
import type { CallerGuard } from '../commands/caller.ts';
import { assertFlag } from '../commands/input.ts';
import { runAsProcess, runCommand } from '../commands/run-command.ts';
import { type ChangeOptions, callerIn } from '../domain/caller.ts';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import type { AuditContext } from '../domain/event.ts';
import { assertMay } from '../domain/key-policy.ts';
import type { SigningKeyRecord } from '../domain/signing-key.ts';
import { type SigningKeyState, stateOf, unusedFrom } from '../domain/signing-key-schedule.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { SigningKeyChanges } from './signing-key-changes.ts';
import {
  isSigningAlgorithm,
  SIGNING_ALGORITHMS,
  type SigningKeyring,
  type UncheckedSigner,
} from './signing-keyring.ts';

/** A signing key, without its private key. */
export interface SigningKeyInfo {
  readonly quarantined?: undefined;
  readonly kid: string;
  readonly algorithm: AsymmetricAlgorithm;
  readonly state: SigningKeyState;
  readonly createdAt: Date;
  /** When it starts to sign, or started. Absent: it is a standby key. */
  readonly signsFrom?: Date;
  /** When every token that it signed has expired, and it is retired. Absent: it signs, or will sign. */
  readonly unusedFrom?: Date;
}

/**
 * A signing key whose row is damaged, possibly only the time of its retirement. It does not sign, its tokens are answered
 * with 503, and it can be retired: otherwise it signs again when its row is repaired.
 */
export interface QuarantinedSigningKey {
  readonly quarantined: true;
  readonly kid: string;
  /** Absent: its public key is damaged too. */
  readonly algorithm?: AsymmetricAlgorithm;
  readonly state?: undefined;
  readonly signsFrom?: undefined;
  readonly unusedFrom?: undefined;
}

export interface RetireSigningKeyOptions extends ChangeOptions {
  /** The private key may be known to others: all signing keys of its algorithm are retired, also the standby key. */
  readonly compromised?: boolean;
}

export class SigningKeyManager {
  readonly #keyring: SigningKeyring;
  readonly #changes: SigningKeyChanges;
  readonly #guard: CallerGuard;
  readonly #clock: Clock;

  constructor(deps: {
    readonly keyring: SigningKeyring;
    readonly changes: SigningKeyChanges;
    readonly guard: CallerGuard;
    readonly clock: Clock;
  }) {
    this.#keyring = deps.keyring;
    this.#changes = deps.changes;
    this.#guard = deps.guard;
    this.#clock = deps.clock;
  }

  /** The signing keys that can be retired, damaged ones included. */
  unretired(): readonly UncheckedSigner[] {
    return this.#keyring.unretired();
  }

  /** The active ones, newest first, then damaged ones. */
  list(options: ChangeOptions = {}): readonly (SigningKeyInfo | QuarantinedSigningKey)[] {
    assertMay(callerIn(options), 'signing_keys.read', SYSTEM_TENANT);
    return [
      ...this.#keyring.active().map((record) => this.#info(record)),
      ...this.#keyring.damaged().map(toQuarantined),
    ];
  }

  /** Returns the one that replaces the current one, at once or from `signsFrom` on. */
  async rotate(algorithm: AsymmetricAlgorithm, options: ChangeOptions = {}): Promise<SigningKeyInfo> {
    const by = callerIn(options);
    assertAlgorithm(algorithm);
    const { change } = await runCommand(
      {
        by,
        action: 'signing_keys.add',
        tenantId: SYSTEM_TENANT,
        load: () => this.#keyring.load(),
        decide: () => this.#changes.decideRotate(algorithm, by.auditContext),
        commit: (rotated) => this.#keyring.commit(rotated),
      },
      this.#guard,
    );
    const next = change?.record ?? this.#next(algorithm);
    if (next === null) throw new PantheonError('conflict');
    return this.#info(next);
  }

  /**
   * Idempotent. With `compromised` the others of its algorithm that were stored beside it are retired, also if this one
   * was retired before.
   *
   * @throws PantheonError `not_found`.
   */
  async retire(kid: string, options: RetireSigningKeyOptions = {}): Promise<void> {
    const by = callerIn(options);
    const { compromised = false } = options;
    assertFlag('compromised', compromised);
    const { change } = await runCommand(
      {
        by,
        action: 'signing_keys.retire',
        tenantId: SYSTEM_TENANT,
        load: () => this.#keyring.load(),
        decide: async () => {
          const current = this.#keyring.unretired().find((one) => one.kid === kid) ?? null;
          const retired = current === null ? await this.#keyring.retired(kid) : null;
          const found = current ?? retired;
          if (found === null) throw new PantheonError('not_found', { field: 'kid' });
          const { auditContext } = by;
          if (compromised)
            return this.#changes.decideCompromised(knownAlgorithm(found), retired?.retiredAt ?? null, auditContext);
          return current === null ? null : this.#changes.decideRetire(current, auditContext);
        },
        commit: (retired) => this.#keyring.commit(retired),
      },
      this.#guard,
    );
    if (change === null) return;
    // The key is retired, so an error here is ignored. If no signing key is left, the next start creates one.
    await this.#keepSigner(change.record.algorithm, by.auditContext).catch(() => {});
  }

  /**
   * Creates a signing key if none is left: two nodes that retire the last two at the same time each expect the other
   * one to stay.
   */
  async #keepSigner(algorithm: AsymmetricAlgorithm | null, by: AuditContext): Promise<void> {
    if (algorithm === null) return;
    await runAsProcess(by, {
      load: () => this.#keyring.load(),
      decide: () => this.#changes.decideSigner(algorithm, by),
      commit: (added) => this.#keyring.commit(added),
    });
  }

  #next(algorithm: AsymmetricAlgorithm): SigningKeyRecord | null {
    const records = this.#keyring.active();
    const now = this.#clock.now();
    return records.find((one) => one.algorithm === algorithm && stateOf(one, records, now) === 'next') ?? null;
  }

  #info(record: SigningKeyRecord): SigningKeyInfo {
    const records = this.#keyring.active();
    const now = this.#clock.now();
    const unused = unusedFrom(record, records, now);
    return {
      kid: record.kid,
      algorithm: record.algorithm,
      state: stateOf(record, records, now),
      createdAt: new Date(record.createdAt),
      ...(record.signsFrom !== null && { signsFrom: new Date(record.signsFrom) }),
      ...(unused !== null && { unusedFrom: new Date(unused) }),
    };
  }
}

function toQuarantined({ kid, algorithm }: UncheckedSigner): QuarantinedSigningKey {
  return { kid, ...(algorithm !== null && { algorithm }), quarantined: true };
}

function assertAlgorithm(algorithm: unknown): void {
  if (isSigningAlgorithm(algorithm)) return;
  throw new PantheonError('invalid_request', {
    field: 'algorithm',
    detail: `One of ${SIGNING_ALGORITHMS.join(', ')}.`,
  });
}

/** The algorithm of a signing key, which may be damaged. @throws PantheonError `not_allowed`. */
function knownAlgorithm({ algorithm }: Pick<UncheckedSigner, 'algorithm'>): AsymmetricAlgorithm {
  if (algorithm !== null) return algorithm;
  const detail = 'This signing key is damaged and its algorithm is not known: name another one of its algorithm.';
  throw new PantheonError('not_allowed', { field: 'kid', detail });
}
