/**
 * Runs commands on one key: loads it, commits the change, and invalidates this node's cache before the answer (I4). The
 * callers supply the decision; the steps are in `commands/run-command.ts`.
 */
import { randomBytes } from 'node:crypto';
import { type CallerGuard, guardUntilEnded } from '../commands/caller.ts';
import type { CommandReads } from '../commands/command-reads.ts';
import { type Command, type Outcome, runCommand } from '../commands/run-command.ts';
import { type DamagedEvent, eventAbout, isReadable } from '../domain/event.ts';
import { EVENT_TYPES, isEventType, isEventTypeOf } from '../domain/event-data.ts';
import { evolve, type KeyRecord, VERSIONS_KEPT_MAX } from '../domain/key.ts';
import { makeVersion, newestVersionNumber } from '../domain/key-versions.ts';
import { readerOf } from '../domain/reader.ts';
import type { TenantRecord } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { IdempotencyRecord } from '../events/ledger.ts';
import type { Lane } from '../events/write-lanes.ts';
import { assertNever, PantheonError } from '../foundation/errors.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';
import type { StoredKey, VersionSecret } from '../verification/stored-key.ts';
import type { VerificationCache } from '../verification/verification-cache.ts';
import type { KeyStorage, SealedChange } from './key-storage.ts';

const EVENTS_PER_READ = 200;

/** The key that a change starts from. `tenant` is null for a damaged key, which can only be revoked. */
export interface ChangeableKey extends Pick<StoredKey, 'record' | 'secrets'>, Pick<SealedChange, 'revisionAsStored'> {
  readonly tenant: TenantRecord | null;
}

/** The decided change of a key, and what is committed with it. */
export interface KeyDecision extends SealedChange {
  readonly idempotencyRecords?: readonly IdempotencyRecord[];
}

/** A command that changes a key. */
export interface KeyCommand<Loaded, Change extends KeyDecision = KeyDecision>
  extends Omit<Command<Loaded, Change>, 'commit' | 'invalidate'> {
  readonly keyId: string;
}

export class KeyChanges {
  readonly #storage: KeyStorage;
  readonly #cache: VerificationCache;
  readonly #events: EventCodec;
  readonly #guard: CallerGuard;
  readonly #reads: CommandReads;

  constructor(deps: {
    readonly storage: KeyStorage;
    readonly cache: VerificationCache;
    readonly events: EventCodec;
    readonly guard: CallerGuard;
    readonly reads: CommandReads;
  }) {
    this.#storage = deps.storage;
    this.#cache = deps.cache;
    this.#events = deps.events;
    this.#guard = deps.guard;
    this.#reads = deps.reads;
  }

  /** Runs a command. `guard`: confirms the caller, if not the usual one. */
  run<Loaded, Change extends KeyDecision>(
    command: KeyCommand<Loaded, Change>,
    guard: CallerGuard = this.#guard,
  ): Promise<Outcome<Loaded, Change>> {
    const commit = (decided: Change): Promise<void> => {
      const { change, secrets, preconditions, revisionAsStored, idempotencyRecords } = decided;
      const sealed = { change, secrets, preconditions: preconditions ?? [], revisionAsStored };
      return this.#storage.commit([sealed], idempotencyRecords);
    };
    return runCommand({ ...command, commit, invalidate: () => this.#cache.invalidate(command.keyId) }, guard);
  }

  /**
   * Changes a key and returns the new record. `lane` is the lane of its event. `ended`: the keys that the same call has
   * already revoked.
   */
  async change(
    command: Omit<KeyCommand<StoredKey>, 'load'>,
    lane: Lane,
    ended: ReadonlySet<string> = new Set(),
  ): Promise<KeyRecord> {
    const guard = guardUntilEnded(this.#guard, ended);
    const { by, tenantId, keyId } = command;
    const load = (): Promise<StoredKey> => this.load(tenantId, keyId, readerOf(by, tenantId), lane);
    const { loaded, change } = await this.run({ ...command, load }, guard);
    return change?.change.record ?? loaded.record;
  }

  /** The same for a revocation, which is possible for a damaged key too. */
  async revoke(
    command: Omit<KeyCommand<ChangeableKey>, 'load'>,
    ended: ReadonlySet<string> = new Set(),
  ): Promise<KeyRecord> {
    const guard = guardUntilEnded(this.#guard, ended);
    const { by, tenantId, keyId } = command;
    const load = (): Promise<ChangeableKey> => this.loadToRevoke(tenantId, keyId, readerOf(by, tenantId));
    const { loaded, change } = await this.run({ ...command, load }, guard);
    return change?.change.record ?? loaded.record;
  }

  /** Reads a key for a command, in turn. @throws PantheonError `overloaded`, and as {@link KeyChanges.find}. */
  load(tenantId: string, id: string, reader: TurnKey, lane: Lane = 'ordinary'): Promise<StoredKey> {
    return this.#reads.run(lane, reader, () => this.find(tenantId, id, lane));
  }

  /** Reads a key without waiting in turn. @throws PantheonError `not_found` when the tenant has no such key, `key_quarantined`. */
  async find(tenantId: string, id: string, lane?: Lane): Promise<StoredKey> {
    // The database drivers handle other types differently.
    const stored = typeof id === 'string' ? await this.#storage.findIn(tenantId, id, lane) : null;
    if (stored === null) throw new PantheonError('not_found');
    return stored;
  }

  /**
   * Loads a key to revoke it. A damaged key is rebuilt from the log, with random secrets, which is enough to revoke it.
   */
  async loadToRevoke(tenantId: string, id: string, reader: TurnKey): Promise<ChangeableKey> {
    try {
      return await this.load(tenantId, id, reader, 'protective');
    } catch (error) {
      if (!(error instanceof PantheonError && error.code === 'key_quarantined')) throw error;
      // Before the events, so that a change between the two reads is a conflict.
      const revisionAsStored = await this.#storage.revisionAsStored(tenantId, id, 'protective');
      const record = await this.#replay(tenantId, id);
      if (record === null || revisionAsStored === null) throw error;
      const secrets = record.versions.map(({ version }) => secretOfNobody(version));
      return { record, tenant: null, secrets, revisionAsStored };
    }
  }

  /** The `seq` of the latest revocation of all tokens of a key. 0: there was none. */
  async tokensRevokedAt(tenantId: string, id: string): Promise<number> {
    const about = { tenantId, type: 'key.tokens_revoked', subjectType: 'key', subjectId: id } as const;
    for (let after: number | null = null; ; ) {
      const { items, next } = await this.#events.list({ ...about, order: 'newest_first', after, limit: 1 });
      if (items[0] !== undefined || next === null) return items[0]?.seq ?? 0;
      after = next;
    }
  }

  async #replay(tenantId: string, id: string): Promise<KeyRecord | null> {
    const query = { tenantId, type: null, subjectType: 'key', subjectId: id, order: 'oldest_first' } as const;
    let record: KeyRecord | null = null;
    for (let after: number | null = null; ; ) {
      const { items, next } = await this.#events.list({ ...query, after, limit: EVENTS_PER_READ });
      for (const event of items) {
        if (isReadable(event)) record = evolve(record, eventAbout('key', event));
        else if (record === null)
          return null; // The event of its creation is lost.
        else record = passOver(record, event);
      }
      if (next === null) return record;
      after = next;
    }
  }
}

/** Applies a damaged event: its content is unknown, but its type and the new revision are known. */
function passOver(record: KeyRecord, { type, at }: DamagedEvent): KeyRecord {
  if (!isEventType(type) || !EVENT_TYPES[type].revisesRow) return record;
  const next = { ...record, revision: record.revision + 1 };
  if (!isEventTypeOf('key', type)) return next;
  switch (type) {
    case 'key.revoked':
      return { ...next, state: { kind: 'revoked', at, reason: null } };
    case 'key.rotated': {
      const older = record.versions.map((one) => ({ ...one, acceptedUntil: Math.min(one.acceptedUntil ?? at, at) }));
      const version = newestVersionNumber(record) + 1;
      const versions = [makeVersion(version, at), ...older].slice(0, VERSIONS_KEPT_MAX);
      return { ...next, version, versions };
    }
    // Whoever loads a key in this way revokes it: what else it was before does not matter.
    case 'key.created':
    case 'key.updated':
    case 'key.suspended':
    case 'key.resumed':
    case 'key.rolled_back':
    case 'key.version_retired':
    case 'key.secret_replaced':
    case 'key.tokens_revoked':
    case 'key.dates_corrected':
    case 'key.exposed_in_url':
    case 'key.exposed_in_text':
    case 'key.token_issued':
    case 'key.expiring':
    case 'key.rotation_due':
    case 'key.rotation_reminded':
    case 'key.rotation_overdue':
    case 'key.rotation_completed':
      return next;
    default:
      return assertNever(type);
  }
}

function secretOfNobody(version: number): VersionSecret {
  return { version, keyHash: randomBytes(32), signing: null };
}
