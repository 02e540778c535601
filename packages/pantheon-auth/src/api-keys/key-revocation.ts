/**
 * Revokes a key. A stolen key may have created keys, and may have rotated, updated or resumed others: `cascade` revokes
 * the created keys and reports the others, or revokes them too. Each revocation is its own commit.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { assertIsMeant, type ConditionalOptions } from '../commands/conditional-change.ts';
import type { SettleOptions } from '../commands/propagation.ts';
import type { ChangeOptions } from '../domain/caller.ts';
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

/**
 * `true`: also revoke every key that the key created, and the keys that those created. `'acted'`: also every key that
 * any of them acted on.
 */
export type Cascade = boolean | 'acted';

/** A key that a revoked key acted on. */
export interface ActedOnKey {
  readonly keyId: string;
  readonly tenantId: string;
  readonly did: readonly ActOnKey[];
  /**
   * Whether this call revoked it. If false, it is unchanged: its secret may have leaked, or its permissions may be too
   * wide.
   */
  readonly revoked: boolean;
}

/** The keys that the revoked keys acted on, returned by a revocation with `cascade`. */
export interface ActedOn {
  /** Those that were not revoked, at most {@link ACTED_ON_NAMED_MAX}. */
  readonly items: readonly ActedOnKey[];
  /** Whether the list is complete. If not, handle these keys, then repeat the call, or read the events of the key. */
  readonly complete: boolean;
}

export interface RevokeOptions extends ChangeOptions, SettleOptions, ConditionalOptions {
  readonly reason?: string;
  /**
   * `true`: also revoke every key that this key created, and the keys that those created. `'acted'`: also revoke every
   * key that any of them rotated, updated or resumed. See {@link ActedOn}.
   */
  readonly cascade?: Cascade;
  /** Do it also when the key is the last administrator. Needs the permission `pantheon:keys:force`. */
  readonly force?: boolean;
}

/** What a revocation with `cascade` returns in addition. */
export interface Cascaded {
  /**
   * Keys that the revoked keys acted on other than by creating them. They are revoked too with `cascade: 'acted'`,
   * otherwise unchanged.
   */
  readonly actedOn?: ActedOn;
}

/** The most keys reported, and revoked, by one call: about 50 kB of JSON, and some seconds of commits. */
export const ACTED_ON_NAMED_MAX = 500;

export interface Ending {
  readonly tenantId: string;
  readonly keyId: string;
  readonly by: Caller;
  readonly auditContext: AuditContext;
  /** The key revokes itself, authenticated by its key string. */
  readonly isSelf: boolean;
  readonly cascade: Cascade;
  readonly force: boolean;
  /** The `ifMatch` condition on this key, not on keys of the cascade. */
  readonly condition?: ConditionalOptions;
}

export interface Ended {
  readonly record: KeyRecord;
  /** Null: without `cascade`. */
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
   * @throws PantheonError the code of the denial when the caller may no longer act, also during a cascade; keys revoked
   * until then stay revoked. `last_administrator`, `version_conflict`.
   */
  async end(ending: Ending): Promise<Ended> {
    const { tenantId, keyId, cascade } = ending;
    const gone = new Set<string>();
    const record = await this.#revoke(ending, tenantId, keyId, gone);
    if (cascade === false) return { record, actedOn: null };
    // Parents first, so that a revoked key creates and acts on no more keys while those are searched.
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
   * Never revokes the caller's key, which is needed to continue, nor the last administrator. Those are reported as not
   * revoked.
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
      // A damaged key counts as not revoked.
      if (error.code === 'key_quarantined' || error.code === 'tenant_quarantined') return true;
      if (error.code === 'not_found') return false;
      throw error;
    }
  }

  async #revoke(ending: Ending, tenantId: string, keyId: string, gone: Set<string>): Promise<KeyRecord> {
    const record = await this.#changes.revoke(
      {
        by: ending.by,
        // A key may revoke itself without a permission.
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

/** Only keys of the system tenant act on keys of other tenants. */
function isWithin(tenantId: string, key: TouchedKey): boolean {
  return tenantId === SYSTEM_TENANT || tenantId === key.tenantId;
}
