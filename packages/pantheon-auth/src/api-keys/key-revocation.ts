/**
 * Revokes a key. A stolen key may have created keys, and may have acted on others: `cascade` revokes the created keys and
 * reports the others, or revokes them too. Each revocation is its own commit. Which of the others are revoked is decided
 * in `acted-on-keys.ts`.
 */
import { assertIsMeant, type ConditionalOptions } from '../commands/conditional-change.ts';
import { assertFlag } from '../commands/input.ts';
import type { SettleOptions } from '../commands/propagation.ts';
import type { ChangeOptions } from '../domain/caller.ts';
import type { AuditContext } from '../domain/event.ts';
import { type KeyRecord, revokeKey, revokeTokens } from '../domain/key.ts';
import { assertMay, assertNotSuperseded, assertProvesCurrent, type Caller } from '../domain/key-policy.ts';
import { readerOf } from '../domain/reader.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import { issuedFrom } from '../domain/token-life.ts';
import { type Clock, SECOND_MS } from '../foundation/clock.ts';
import type { Code } from '../foundation/codes.ts';
import { PantheonError } from '../foundation/errors.ts';
import { type ActedOn, ActedOnKeys, type Cascading } from './acted-on-keys.ts';
import type { Administrators } from './administrators.ts';
import type { KeyActs, TouchedKey } from './key-acts.ts';
import type { ChangeableKey, KeyChanges } from './key-changes.ts';
import type { KeyDescendants } from './key-descendants.ts';

/**
 * `true`: also revoke every key that the key created, and the keys that those created. `'acted'`: also every key that
 * any of them acted on, and the tokens that any of them had issued for a key.
 */
export type Cascade = boolean | 'acted';

/**
 * The most time that one call takes. An HTTP request is answered with an error after about a minute, and the caller would
 * then not learn how far the cascade has come.
 */
export const CASCADE_MAX_MS: number = 20 * SECOND_MS;

export interface RevokeOptions extends ChangeOptions, SettleOptions, ConditionalOptions {
  readonly reason?: string;
  /**
   * `true`: also revoke every key that this key created, and the keys that those created. `'acted'`: also revoke every
   * key that any of them rotated, updated or resumed, and all tokens of keys for which any of them had tokens issued.
   * After 20 seconds the cascade stops with `complete: false`: repeat the call. See {@link ActedOn}.
   */
  readonly cascade?: Cascade;
  /** Do it also when the key is the last administrator. Needs the permission `pantheon:keys:force`. */
  readonly force?: boolean;
}

/** @throws PantheonError `invalid_request` for a value that is not one of those named above. */
export function assertFlags({ force, cascade }: RevokeOptions): void {
  assertFlag('force', force);
  if (cascade !== 'acted') assertFlag('cascade', cascade);
}

/** What a revocation with `cascade` returns in addition. */
export interface Cascaded {
  /**
   * Keys that the revoked keys acted on other than by creating them. They are revoked too with `cascade: 'acted'`,
   * otherwise unchanged.
   */
  readonly actedOn?: ActedOn;
}

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
  readonly #actedOn: ActedOnKeys;
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
    this.#actedOn = new ActedOnKeys(deps);
    this.#clock = deps.clock;
  }

  /**
   * @throws PantheonError the code of the denial when the caller may no longer act, also during a cascade; keys revoked
   * until then stay revoked. `last_administrator`, `version_conflict`.
   */
  async end(ending: Ending): Promise<Ended> {
    const { tenantId, keyId, cascade } = ending;
    const gone = new Set<string>();
    const endsAtMs = this.#clock.monotonicMs() + CASCADE_MAX_MS;
    const isOver = (): boolean => this.#clock.monotonicMs() >= endsAtMs;
    const record = await this.#revoke(ending, tenantId, keyId, gone);
    if (cascade === false) return { record, actedOn: null };
    // Parents first, so that a revoked key creates and acts on no more keys while those are searched.
    const revokeChild = (ofTenant: string, child: string): Promise<boolean> =>
      wasDone(async () => (await this.#revoke(ending, ofTenant, child, gone)).state.kind === 'revoked', DAMAGED);
    const isWhole = await this.#descendants.revoke(
      { tenantId, keyId, reader: readerOf(ending.by, tenantId) },
      revokeChild,
      isOver,
    );
    if (isOver()) return { record, actedOn: { items: [], complete: false } };
    const actedOn = await this.#actedOn.of(this.#cascading(ending, gone, isOver));
    return { record, actedOn: { ...actedOn, complete: actedOn.complete && isWhole } };
  }

  #cascading(ending: Ending, gone: Set<string>, isOver: () => boolean): Cascading {
    return {
      keyId: ending.keyId,
      reader: readerOf(ending.by, ending.tenantId),
      isTaking: ending.cascade === 'acted',
      gone,
      isOver,
      isWithin: (key) => isWithin(ending.tenantId, key),
      // Not the key of the caller, which is needed to continue.
      revoke: async (key) =>
        !isCallers(ending, key) &&
        wasDone(async () => (await this.#revoke(ending, key.tenantId, key.keyId, gone)).state.kind === 'revoked'),
      // Not the token that the caller uses.
      revokeTokens: async (key) =>
        !(isCallers(ending, key) && isByToken(ending)) && wasDone(() => this.#revokeTokens(ending, key, gone)),
    };
  }

  /** Whoever may revoke a key may revoke its tokens. Returns false when they were revoked within the same second. */
  async #revokeTokens(
    { by, auditContext }: Ending,
    { tenantId, keyId }: TouchedKey,
    gone: ReadonlySet<string>,
  ): Promise<boolean> {
    let isDone = true;
    await this.#changes.change(
      {
        ...{ by, action: 'keys.revoke', tenantId, keyId },
        decide: ({ record, secrets }, caller) => {
          assertNotSuperseded(caller, record);
          const now = this.#clock.now();
          // Tokens issued after that revocation have an `iat` later than now, so this revocation would not cover them.
          isDone = issuedFrom(record, null) <= now;
          if (record.state.kind === 'revoked' || !isDone) return null;
          return { change: revokeTokens(record, auditContext, now), secrets };
        },
      },
      'protective',
      gone,
    );
    return isDone;
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
          return change && { change, secrets: key.secrets, preconditions, revisionAsStored: key.revisionAsStored };
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

function isCallers({ by: { authority } }: Ending, { keyId }: TouchedKey): boolean {
  return authority.kind === 'key' && authority.keyId === keyId;
}

function isByToken({ by: { authority } }: Ending): boolean {
  return authority.kind === 'key' && authority.via === 'token';
}

/** A key that cannot be read or rebuilt. It is not accepted, and the cascade continues with the others. */
const DAMAGED: ReadonlySet<Code> = new Set(['key_quarantined', 'tenant_quarantined']);
/** Keys that stay unchanged and are reported so: the last administrator, and damaged keys. */
const LEFT: ReadonlySet<Code> = new Set(['last_administrator', ...DAMAGED]);

async function wasDone(work: () => Promise<boolean>, left: ReadonlySet<Code> = LEFT): Promise<boolean> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PantheonError && left.has(error.code)) return false;
    throw error;
  }
}
