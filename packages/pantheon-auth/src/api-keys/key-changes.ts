/**
 * How a key is changed: load → decide → commit, again from the start when someone else was faster; and what this node
 * remembers of the key is forgotten before the answer (I4). What is decided is the callers' business.
 */
import { randomBytes } from 'node:crypto';
import { type DamagedEvent, isReadable, REVISED_ROWS } from '../domain/event.ts';
import { evolve, type KeyRecord, VERSIONS_KEPT_MAX } from '../domain/key.ts';
import type { TenantRecord } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { IdempotencyRecord } from '../events/ledger.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { KeyStorage, SealedChange, StoredKey, VersionSecret } from './key-storage.ts';
import type { VerificationCache } from './verification-cache.ts';

/** Someone else changed the key between reading and writing: read again, this often. */
const ATTEMPTS_MAX = 5;
const EVENTS_PER_READ = 200;

/** What a change starts from. The tenant is null where the key does not open: such a one can only be revoked. */
export interface ChangeableKey extends Pick<StoredKey, 'record' | 'secrets'> {
  readonly tenant: TenantRecord | null;
}
/** What to change of a key as it is now. Null: it already is so. */
export type Decision = (key: ChangeableKey) => SealedChange | null | Promise<SealedChange | null>;

export class KeyChanges {
  readonly #storage: KeyStorage;
  readonly #cache: VerificationCache;
  readonly #events: EventCodec;

  constructor(deps: { readonly storage: KeyStorage; readonly cache: VerificationCache; readonly events: EventCodec }) {
    this.#storage = deps.storage;
    this.#cache = deps.cache;
    this.#events = deps.events;
  }

  /** @throws PantheonError `not_found` when the tenant has no such key, `key_quarantined`. */
  async load(tenantId: string, id: string): Promise<StoredKey> {
    const stored = await this.#storage.findIn(tenantId, id);
    if (stored === null) throw new PantheonError('not_found');
    return stored;
  }

  /** Changes a key as decided, and answers the record after it. */
  change(tenantId: string, id: string, decide: Decision): Promise<KeyRecord> {
    return this.#change(() => this.load(tenantId, id), decide);
  }

  /** The same for a revocation: also of a damaged key. */
  revoke(tenantId: string, id: string, decide: Decision): Promise<KeyRecord> {
    return this.#change(() => this.#loadToRevoke(tenantId, id), decide);
  }

  async #change(load: () => Promise<ChangeableKey>, decide: Decision): Promise<KeyRecord> {
    for (let attempt = 1; ; attempt += 1) {
      const key = await load();
      const sealed = await decide(key);
      if (sealed === null) {
        // It already is so, by somebody else perhaps, of whom this node has not heard: what it remembers may be older.
        this.#cache.invalidate(key.record.id);
        return key.record;
      }
      try {
        await this.commit(sealed);
        return sealed.change.record;
      } catch (error) {
        if (!(error instanceof PantheonError && error.code === 'conflict') || attempt === ATTEMPTS_MAX) throw error;
      }
    }
  }

  /** Commits one change, once. */
  async commit(sealed: SealedChange, idempotencyRecords: readonly IdempotencyRecord[] = []): Promise<void> {
    try {
      await this.#storage.commit([sealed], idempotencyRecords);
    } finally {
      // Also when the outcome is unknown: what is remembered may be wrong now.
      this.#cache.invalidate(sealed.change.record.id);
    }
  }

  /** A key whose rows do not open is taken as the log tells it, with secrets that nobody has: enough to revoke it. */
  async #loadToRevoke(tenantId: string, id: string): Promise<ChangeableKey> {
    try {
      return await this.load(tenantId, id);
    } catch (error) {
      if (!(error instanceof PantheonError && error.code === 'key_quarantined')) throw error;
      const record = await this.#replay(tenantId, id);
      if (record === null) throw error;
      return { record, tenant: null, secrets: record.versions.map(({ version }) => secretOfNobody(version)) };
    }
  }

  async #replay(tenantId: string, id: string): Promise<KeyRecord | null> {
    const query = { tenantId, type: null, subjectType: 'key', subjectId: id, order: 'oldest_first' } as const;
    let record: KeyRecord | null = null;
    for (let after: number | null = null; ; ) {
      const { items, next } = await this.#events.list({ ...query, after, limit: EVENTS_PER_READ });
      for (const event of items) {
        if (isReadable(event)) record = evolve(record, event);
        else if (record === null)
          return null; // How it was made is lost.
        else record = passOver(record, event);
      }
      if (next === null) return record;
      after = next;
    }
  }
}

/** What a damaged event changed is not known. That it did, and how far the numbers went, is. */
function passOver(record: KeyRecord, { type, at }: DamagedEvent): KeyRecord {
  if (!REVISED_ROWS[type]) return record;
  const next = { ...record, revision: record.revision + 1 };
  if (type === 'key.revoked') return { ...next, state: { kind: 'revoked', at, reason: null } };
  if (type !== 'key.rotated') return next;
  const older = record.versions.map((one) => ({ ...one, acceptedUntil: Math.min(one.acceptedUntil ?? at, at) }));
  const version = record.version + 1;
  const versions = [{ version, createdAt: at, acceptedUntil: null }, ...older].slice(0, VERSIONS_KEPT_MAX);
  return { ...next, version, versions };
}

function secretOfNobody(version: number): VersionSecret {
  return { version, keyHash: randomBytes(32), signing: null };
}
