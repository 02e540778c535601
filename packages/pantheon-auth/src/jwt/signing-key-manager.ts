/**
 * The signing keys as callers see and change them: keys of the system tenant with the permission. What a change does is
 * `signing-key-changes.ts`.
 */
import { type CallerGuard, type ChangeOptions, PROCESS_CALLER } from '../commands/caller.ts';
import { runAsProcess, runCommand } from '../commands/run-command.ts';
import type { AsymmetricAlgorithm } from '../domain/claims.ts';
import type { AuditContext } from '../domain/event.ts';
import { assertMay } from '../domain/key-policy.ts';
import type { SigningKeyRecord } from '../domain/signing-key.ts';
import { type SigningKeyState, stateOf, unusedFrom } from '../domain/signing-key-schedule.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { SigningKeyChanges } from './signing-key-changes.ts';
import { SIGNING_ALGORITHMS, type SigningKeyring } from './signing-keyring.ts';

/** A signing key as it is shown: never its private half. */
export interface SigningKeyInfo {
  readonly kid: string;
  readonly algorithm: AsymmetricAlgorithm;
  readonly state: SigningKeyState;
  readonly createdAt: Date;
  /** From when on it signs, or did. Absent: it waits. */
  readonly signsFrom?: Date;
  /** From when on no token that it signed is good any more, and it is retired. Absent: it signs, or will. */
  readonly unusedFrom?: Date;
}

export interface RetireSigningKeyOptions extends ChangeOptions {
  /** Somebody may know the private key: all signing keys of its algorithm end, the waiting one among them. */
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

  /** Those that verify, newest first. */
  active(): readonly SigningKeyRecord[] {
    return this.#keyring.active();
  }

  list({ by = PROCESS_CALLER }: ChangeOptions = {}): readonly SigningKeyInfo[] {
    assertMay(by, 'signing_keys.read', SYSTEM_TENANT);
    return this.#keyring.active().map((record) => this.#info(record));
  }

  /** Answers the one that signs next: at once, or from `signsFrom` on. */
  async rotate(algorithm: AsymmetricAlgorithm, { by = PROCESS_CALLER }: ChangeOptions = {}): Promise<SigningKeyInfo> {
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

  /** @throws PantheonError `not_found` also for one that has ended: those are not kept in memory. */
  async retire(kid: string, { by = PROCESS_CALLER, compromised = false }: RetireSigningKeyOptions = {}): Promise<void> {
    assertCompromised(compromised);
    let wasFound = false;
    const { change } = await runCommand(
      {
        by,
        action: 'signing_keys.retire',
        tenantId: SYSTEM_TENANT,
        load: () => this.#keyring.load(),
        decide: () => {
          const current = this.#keyring.recordOf(kid);
          // Another node ended it at the same moment.
          if (current === null && wasFound) return null;
          if (current === null) throw new PantheonError('not_found', { field: 'kid' });
          wasFound = true;
          return this.#changes.decideRetire(current, compromised, by.auditContext);
        },
        commit: (retired) => this.#keyring.commit(retired),
      },
      this.#guard,
    );
    if (change !== null) await this.#keepSigner(change.record.algorithm, by.auditContext);
  }

  /** Each of two nodes that end the last two at once takes the other's for the one that stays. */
  async #keepSigner(algorithm: AsymmetricAlgorithm, by: AuditContext): Promise<void> {
    await runAsProcess(by, {
      load: () => this.#keyring.load(),
      decide: () => (this.#changes.hasSigner(algorithm) ? null : this.#changes.decideAdd(algorithm, by)),
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

function assertAlgorithm(algorithm: unknown): void {
  if (SIGNING_ALGORITHMS.some((one) => one === algorithm)) return;
  throw new PantheonError('invalid_request', {
    field: 'algorithm',
    detail: `One of ${SIGNING_ALGORITHMS.join(', ')}.`,
  });
}

function assertCompromised(value: unknown): void {
  if (typeof value === 'boolean') return;
  throw new PantheonError('invalid_request', { field: 'compromised', detail: 'true or false.' });
}
