/**
 * The end of a key, and of what it made. A key that was stolen may have created keys, and may have rotated, updated or
 * resumed others: `cascade` takes the first along and names the others, or takes them too. Each is a commit of its own.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ChangeOptions } from '../commands/caller.ts';
import { assertIsMeant, type ConditionalOptions } from '../commands/conditional-change.ts';
import type { SettleOptions } from '../commands/propagation.ts';
import type { AuditContext } from '../domain/event.ts';
import { type KeyRecord, revokeKey } from '../domain/key.ts';
import { assertMay, assertNotSuperseded, assertProvesCurrent, type Caller } from '../domain/key-policy.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Administrators } from './administrators.ts';
import type { ActOnKey, KeyActs, TouchedKey } from './key-acts.ts';
import type { ChangeableKey, KeyChanges } from './key-changes.ts';
import type { KeyDescendants } from './key-descendants.ts';

/** `true`: every key that it created, and what those created. `'acted'`: also every key that any of them acted on. */
export type Cascade = boolean | 'acted';

/** A key that a revoked one acted on. */
export interface ActedOnKey {
  readonly keyId: string;
  readonly tenantId: string;
  readonly did: readonly ActOnKey[];
  /** Whether this call revoked it. If not, it is as it was: its secret may be in wrong hands, or its rights be too wide. */
  readonly revoked: boolean;
}

/** What a revocation with `cascade` says of keys that the revoked ones acted on. */
export interface ActedOn {
  /** Those that were alive when they were looked at, at most {@link ACTED_ON_NAMED_MAX}. */
  readonly items: readonly ActedOnKey[];
  /** Whether that is all. If not: deal with these, then repeat the call; or look through the events of the key. */
  readonly complete: boolean;
}

export interface RevokeOptions extends ChangeOptions, SettleOptions, ConditionalOptions {
  readonly reason?: string;
  /**
   * `true`: also every key that it created, and what those created. `'acted'`: also every key that it, or any of those,
   * rotated, updated or resumed. See {@link ActedOn}.
   */
  readonly cascade?: Cascade;
  /** Also when it is the last key that can administer. Needs the permission `pantheon:keys:force`. */
  readonly force?: boolean;
}

/** What a revocation with `cascade` says besides. */
export interface Cascaded {
  /** Keys that the revoked ones acted on, other than by creating them: left as they are, or revoked too, as asked for. */
  readonly actedOn?: ActedOn;
}

/** Named, and revoked, by one call: about 50 kB of JSON, and some seconds of commits. */
export const ACTED_ON_NAMED_MAX = 500;

export interface Ending {
  readonly tenantId: string;
  readonly keyId: string;
  readonly by: Caller;
  readonly auditContext: AuditContext;
  /** The holder of the key ends it, by its string. */
  readonly isSelf: boolean;
  readonly cascade: Cascade;
  readonly force: boolean;
  /** On the key that is named, not on those that go with it. */
  readonly condition?: ConditionalOptions;
}

export interface Ended {
  readonly record: KeyRecord;
  /** Null: nobody asked. */
  readonly actedOn: ActedOn | null;
}

export class KeyRevocation {
  readonly #changes: KeyChanges;
  readonly #administrators: Administrators;
  readonly #descendants: KeyDescendants;
  readonly #acts: KeyActs;
  readonly #clock: Clock;

  constructor(deps: {
    readonly changes: KeyChanges;
    readonly administrators: Administrators;
    readonly descendants: KeyDescendants;
    readonly acts: KeyActs;
    readonly clock: Clock;
  }) {
    this.#changes = deps.changes;
    this.#administrators = deps.administrators;
    this.#descendants = deps.descendants;
    this.#acts = deps.acts;
    this.#clock = deps.clock;
  }

  /**
   * @throws PantheonError the code of the denial when the caller may no longer act, also in the middle of a cascade; what
   * was revoked until then stays revoked. `last_administrator`, `version_conflict`.
   */
  async end(ending: Ending): Promise<Ended> {
    const { tenantId, keyId, cascade } = ending;
    const gone = new Set<string>();
    const record = await this.#revoke(ending, tenantId, keyId, gone);
    if (cascade === false) return { record, actedOn: null };
    // Parents first: a key that is revoked makes no more children, and acts on no more keys, while we look for them.
    await this.#descendants.revoke(tenantId, keyId, (ofTenant, child) => this.#revoke(ending, ofTenant, child, gone));
    return { record, actedOn: await this.#actedOn(ending, gone) };
  }

  async #actedOn(ending: Ending, gone: Set<string>): Promise<ActedOn> {
    const isTaken = ending.cascade === 'acted';
    const touched = await this.#acts.of(ending.keyId, isTaken ? 'all' : 'created');
    const items: ActedOnKey[] = [];
    for (const key of touched.keys) {
      await nextTurn();
      if (gone.has(key.keyId) || !isWithin(ending.tenantId, key) || !(await this.#isAlive(key))) continue;
      if (items.length === ACTED_ON_NAMED_MAX) return { items, complete: false };
      const { keyId, tenantId, did } = key;
      const revoked = isTaken && (await this.#take(ending, key, gone));
      items.push({ keyId, tenantId, did: [...did], revoked });
    }
    return { items, complete: touched.isComplete };
  }

  /**
   * Never the key of the caller, who is still needed to deal with the rest, nor the last administrator: those are named as
   * they are.
   */
  async #take(ending: Ending, { keyId, tenantId }: TouchedKey, gone: Set<string>): Promise<boolean> {
    const { authority } = ending.by;
    if (authority.kind === 'key' && authority.keyId === keyId) return false;
    try {
      await this.#revoke(ending, tenantId, keyId, gone);
      return true;
    } catch (error) {
      if (error instanceof PantheonError && error.code === 'last_administrator') return false;
      throw error;
    }
  }

  async #isAlive({ tenantId, keyId }: TouchedKey): Promise<boolean> {
    try {
      return (await this.#changes.load(tenantId, keyId)).record.state.kind !== 'revoked';
    } catch (error) {
      if (!(error instanceof PantheonError)) throw error;
      // One that does not open may be as alive as any other.
      if (error.code === 'key_quarantined' || error.code === 'tenant_quarantined') return true;
      if (error.code === 'not_found') return false;
      throw error;
    }
  }

  async #revoke(ending: Ending, tenantId: string, keyId: string, gone: Set<string>): Promise<KeyRecord> {
    const record = await this.#changes.revoke(
      {
        by: ending.by,
        // Whoever holds a key may give it up.
        action: ending.isSelf ? null : 'keys.revoke',
        tenantId,
        keyId,
        decide: async (key, caller) => {
          assertMayEnd(ending, caller, key);
          if (keyId === ending.keyId) assertIsMeant(ending.condition ?? {}, 'key', key.record);
          if (key.record.state.kind === 'revoked') return null;
          const preconditions = await this.#administrators.requireAnotherAdmin(key.record, ending.force);
          const change = revokeKey(key.record, ending.auditContext, this.#clock.now());
          return change && { change, secrets: key.secrets, preconditions };
        },
      },
      gone,
    );
    gone.add(keyId);
    return record;
  }
}

function assertMayEnd(ending: Ending, caller: Caller, { record }: ChangeableKey): void {
  if (ending.isSelf) {
    assertProvesCurrent(caller, record);
    return;
  }
  if (ending.force) assertMay(caller, 'keys.force', record.tenantId);
  assertNotSuperseded(caller, record);
}

/** Only keys of the system act on keys of other tenants. */
function isWithin(tenantId: string, key: TouchedKey): boolean {
  return tenantId === SYSTEM_TENANT || tenantId === key.tenantId;
}
