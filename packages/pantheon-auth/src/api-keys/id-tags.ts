/**
 * The secrets that tag the ids of keys: made, sealed, loaded, and which of them a new id takes. They are few and in
 * memory, and are loaded anew when the log says that one was added or retired. What a tag is, is `id-tag.ts`; who may
 * change the list is `id-tag-manager.ts`.
 */
import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { isUint8Array } from 'node:util/types';
import { type Conditional, runAsProcess } from '../commands/run-command.ts';
import { type AuditContext, type AuditEvent, type EventOf, type EventTypeOf, newEvent } from '../domain/event.ts';
import { evolveIdTagSecret, type IdTagSecretRecord } from '../domain/id-tag-secret.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Follower } from '../events/event-feed.ts';
import type { EventNotice, Ledger, RowChange } from '../events/ledger.ts';
import { type Clock, MINUTE_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import type { IdTagSecretRow } from '../schema/id-tag-secret-row.ts';
import type { IdTagCheck, TagVerdict } from '../verification/key-lookup.ts';
import { isTaggedBy, TAG_SECRET_BYTES, taggedId } from './id-tag.ts';
import type { IdTagRows } from './id-tag-rows.ts';

/** One in use, its successor, and room for two mistakes. */
export const TAG_SECRETS_ACTIVE_MAX = 4;
/** In memory, retired ones included: each costs a MAC for an id that none of them tagged. With more, none is `forged`. */
const TAG_SECRETS_LOADED_MAX = 16;
/** What a node may be late beyond the age that its answers may have. */
const MARGIN_MS = 50;
/** No commit takes so long: whatever is dated before it was committed by now. For a node that has just started. */
const COMMIT_MS_MAX: number = MINUTE_MS;

/** A tag secret as its administrators see it. */
export interface IdTagSecret {
  readonly number: number;
  readonly createdAt: Date;
  readonly retiredAt: Date | null;
  /** Whether its row does not open: then ids are looked up that could be its own. */
  readonly quarantined: boolean;
}

/** What is committed, and the secret that it is about as it is then. */
export interface IdTagChange extends Conditional {
  readonly changes: readonly RowChange[];
  readonly events: readonly [AuditEvent, ...AuditEvent[]];
  readonly secret: IdTagSecret;
}

interface LoadedSecret {
  readonly record: IdTagSecretRecord;
  /** Null: its row does not open. */
  readonly secret: KeyObject | null;
  /** Names exactly this secret. After a failover that lost one, another can have the same number. */
  readonly sealed: string;
}

export class IdTags implements Follower, IdTagCheck {
  readonly #rows: IdTagRows;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #sealer: Sealer;
  readonly #clock: Clock;
  readonly #settledAfterMs: number;
  readonly #onQuarantine: (error: PantheonError) => void;
  /** The newest first. */
  #secrets: readonly LoadedSecret[] = [];
  /** The highest number that was ever given, as far as the list or any key tells. */
  #newestNumber = 0;
  /** Whether an id that no secret tagged cannot be one of ours. */
  #isConclusive = false;
  /** By what is sealed, since when (monotonic) it is known here, and so committed. */
  #knownSinceMs = new Map<string, number>();
  /** Loads that were begun, and the latest begun of those that ended: one that was overtaken must not undo the other. */
  #loadsBegun = 0;
  #loadsEnded = 0;

  constructor(deps: {
    readonly rows: IdTagRows;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly sealer: Sealer;
    readonly clock: Clock;
    readonly stalenessMaxMs: number;
    /** Told once of each secret whose row does not open. */
    readonly onQuarantine?: (error: PantheonError) => void;
  }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#sealer = deps.sealer;
    this.#clock = deps.clock;
    this.#settledAfterMs = deps.stalenessMaxMs + MARGIN_MS;
    this.#onQuarantine = deps.onQuarantine ?? (() => {});
  }

  /** Loads what is stored, and makes one where there is none that new ids could take. */
  async start(by: AuditContext): Promise<void> {
    try {
      await runAsProcess(by, {
        load: () => this.load(),
        // Another node that starts at the same moment may be faster: then its secret is loaded, and none is missing.
        decide: () => (this.#needsOne() ? this.#added(by) : null),
        commit: (change) => this.commit(change),
      });
    } catch (error) {
      // A data key that does not open makes no new keys possible; those that exist are verified all the same.
      if (!(error instanceof PantheonError && error.code === 'key_quarantined')) throw error;
      this.#onQuarantine(error);
    }
  }

  verdict(id: string): TagVerdict {
    for (const { record, secret } of this.#secrets)
      if (secret !== null && isTaggedBy(id, secret)) return record.retiredAt === null ? 'issued' : 'uncertain';
    return this.#isConclusive ? 'forged' : 'uncertain';
  }

  /**
   * A new id, and the number of the secret that tagged it: the newest one that every node has read by now, so that none
   * takes the id for a forged one.
   *
   * @throws PantheonError `store_unavailable` for the second in which there is none.
   */
  newId(): { readonly id: string; readonly number: number } {
    const usable = this.#secrets.filter((one) => one.secret !== null && this.#isReadEverywhere(one));
    // A retired one does while its successor is too young: ids that it tags are looked up, so none is refused.
    const chosen = usable.find(({ record }) => record.retiredAt === null) ?? usable[0];
    if (chosen?.secret != null) return { id: taggedId(chosen.secret), number: chosen.record.number };
    const detail = 'There is no secret for new ids that every node has read. See: pantheon-auth id-tags list';
    throw new PantheonError('store_unavailable', { detail, retryAfterSeconds: 1 });
  }

  /** The number of the secret that tagged this id; null: none of ours. */
  numberOf(id: string): number | null {
    const found = this.#secrets.find(({ secret }) => secret !== null && isTaggedBy(id, secret));
    return found?.record.number ?? null;
  }

  /** The newest first. */
  list(): readonly IdTagSecret[] {
    return this.#secrets.map(({ record, secret }) => toIdTagSecret(record, secret === null));
  }

  /** What makes a secret. New ids take it as soon as every node has read it. @throws PantheonError `not_allowed`. */
  async decideAdd(by: AuditContext): Promise<IdTagChange> {
    if (this.#activeCount() >= TAG_SECRETS_ACTIVE_MAX) {
      const detail = `There are ${TAG_SECRETS_ACTIVE_MAX} that are not retired. Retire one first.`;
      throw new PantheonError('not_allowed', { detail });
    }
    return this.#added(by);
  }

  /**
   * What ends a secret that somebody may know: ids that it tagged are looked up from then on, in the lane of doubtful ids.
   * The last one gets a successor, in the same commit. Null: it has ended.
   *
   * @throws PantheonError `not_found`.
   */
  async decideRetire(number: number, by: AuditContext): Promise<IdTagChange | null> {
    const found = this.#secrets.find(({ record }) => record.number === number);
    if (found === undefined) throw new PantheonError('not_found', { field: 'number' });
    if (found.record.retiredAt !== null) return null;
    const successor = this.#activeCount() === 1 ? await this.#added(by) : null;
    const event = this.#event('id_tag_secret.retired', number, by);
    const record = evolveIdTagSecret(found.record, event);
    const change: RowChange = {
      kind: 'update',
      table: 'id_tag_secrets',
      where: { number },
      set: { retired_at: record.retiredAt, revision: record.revision },
      expectedRevision: found.record.revision,
    };
    return {
      changes: [...(successor?.changes ?? []), change],
      events: successor === null ? [event] : [...successor.events, event],
      secret: toIdTagSecret(record, found.secret === null),
    };
  }

  /** @throws PantheonError `conflict`. */
  async commit({ changes, events, preconditions = [] }: IdTagChange): Promise<void> {
    try {
      await this.#ledger.commit({ changes, preconditions, events: await this.#events.toRows(events) });
    } catch (error) {
      // Somebody else was faster, or the outcome is unknown. What the store says when it is asked now does not matter more.
      await this.load().catch(() => {});
      throw error;
    }
    await this.load();
  }

  async #added(by: AuditContext): Promise<IdTagChange> {
    const number = this.#newestNumber + 1;
    const event = this.#event('id_tag_secret.added', number, by);
    const record = evolveIdTagSecret(null, event);
    const sealed = await this.#sealer.seal(contextOf(number), randomBytes(TAG_SECRET_BYTES));
    const change: RowChange = { kind: 'insert', table: 'id_tag_secrets', row: { ...toRow(record), sealed } };
    return { changes: [change], events: [event], secret: toIdTagSecret(record, false) };
  }

  #needsOne(): boolean {
    const hasOne = this.#secrets.some(({ record, secret }) => record.retiredAt === null && secret !== null);
    return !hasOne && this.#activeCount() < TAG_SECRETS_ACTIVE_MAX;
  }

  apply(notice: EventNotice): void | Promise<void> {
    if (notice.subjectType === 'id_tag_secret') return this.load();
  }

  reset(): Promise<void> {
    return this.load();
  }

  #activeCount(): number {
    return this.#secrets.filter(({ record }) => record.retiredAt === null).length;
  }

  /** The first one of a store is: where there is no other, no id is taken for a forged one. */
  #isReadEverywhere({ record, sealed }: LoadedSecret): boolean {
    if (record.number === 1) return true;
    const knownForMs = this.#clock.monotonicMs() - (this.#knownSinceMs.get(sealed) ?? Number.POSITIVE_INFINITY);
    const ageMs = this.#clock.now() - record.createdAt;
    return knownForMs >= this.#settledAfterMs || ageMs >= COMMIT_MS_MAX + this.#settledAfterMs;
  }

  /** Reads the list anew. */
  async load(): Promise<void> {
    this.#loadsBegun += 1;
    const begun = this.#loadsBegun;
    const rows = await this.#rows.newest(TAG_SECRETS_LOADED_MAX);
    const { hasUntagged, newestNumber } = await this.#rows.idsInUse();
    const nowMs = this.#clock.monotonicMs();
    const loaded = await Promise.all(rows.map((row) => this.#open(row)));
    if (begun < this.#loadsEnded) return;
    this.#loadsEnded = begun;
    this.#knownSinceMs = new Map(loaded.map(({ sealed }) => [sealed, this.#knownSinceMs.get(sealed) ?? nowMs]));
    const unread = new Set(this.#secrets.flatMap(({ secret, sealed }) => (secret === null ? [sealed] : [])));
    this.#secrets = loaded;
    const newest = loaded[0]?.record.number ?? 0;
    this.#newestNumber = Math.max(newest, newestNumber ?? 0);
    // Numbers have no gap, so as many rows as the highest number says are all there ever were.
    const areAllRead = newest > 0 && loaded.length === newest && loaded.every(({ secret }) => secret !== null);
    this.#isConclusive = areAllRead && !hasUntagged && this.#newestNumber === newest;
    for (const { error, sealed } of loaded) if (error !== null && !unread.has(sealed)) this.#onQuarantine(error);
  }

  /** One damaged row must not stop the others, nor the feed that has this loaded. */
  async #open(row: IdTagSecretRow): Promise<LoadedSecret & { readonly error: PantheonError | null }> {
    const record = fromRow(row);
    const sealed = isUint8Array(row.sealed) ? row.sealed : new Uint8Array();
    const name = `${record.number} ${Buffer.from(sealed).toString('base64')}`;
    try {
      const secret = createSecretKey(await this.#sealer.open(contextOf(record.number), sealed));
      return { record, secret, sealed: name, error: null };
    } catch (error) {
      if (!(error instanceof PantheonError && error.code === 'key_quarantined')) throw error;
      return { record, secret: null, sealed: name, error };
    }
  }

  #event<Type extends EventTypeOf<'id_tag_secret'>>(type: Type, number: number, by: AuditContext): EventOf<Type> {
    const where = { at: this.#clock.now(), tenantId: SYSTEM_TENANT, subjectId: String(number) };
    return newEvent(type, { ...where, before: null, after: null }, by);
  }
}

function toIdTagSecret({ number, createdAt, retiredAt }: IdTagSecretRecord, quarantined: boolean): IdTagSecret {
  const retired = retiredAt === null ? null : new Date(retiredAt);
  return { number, createdAt: new Date(createdAt), retiredAt: retired, quarantined };
}

function contextOf(number: number): EncryptionContext {
  return { table: 'id_tag_secrets', column: 'sealed', tenantId: SYSTEM_TENANT, rowId: String(number), version: 0 };
}

function toRow(record: IdTagSecretRecord): Omit<IdTagSecretRow, 'sealed'> {
  return {
    number: record.number,
    tenant_id: SYSTEM_TENANT,
    created_at: record.createdAt,
    retired_at: record.retiredAt,
    revision: record.revision,
  };
}

function fromRow(row: IdTagSecretRow): IdTagSecretRecord {
  return { number: row.number, createdAt: row.created_at, retiredAt: row.retired_at, revision: row.revision };
}
