/**
 * The secrets that tag the ids of keys: creates, seals and loads them, and chooses the one for new ids. They are few
 * and kept in memory, and are reloaded after an event that adds or retires one. The format of a tag is in `id-tag.ts`,
 * the permission checks in `id-tag-manager.ts`.
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
import { LoadOrder } from '../foundation/load-order.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import { type AsStored, undamaged } from '../schema/as-stored.ts';
import type { IdTagSecretRow } from '../schema/id-tag-secret-row.ts';
import type { IdTagCheck, TagVerdict } from '../verification/key-lookup.ts';
import { isTaggedBy, TAG_SECRET_BYTES, taggedId } from './id-tag.ts';
import type { IdTagRows } from './id-tag-rows.ts';

/** One in use, its successor, and two more. */
export const TAG_SECRETS_ACTIVE_MAX = 4;
/**
 * The most secrets in memory, including retired ones. An id with no valid tag costs one MAC for each. If there are more
 * secrets, no id is taken for `forged`.
 */
const TAG_SECRETS_LOADED_MAX = 16;
/** Added to `stalenessMax`, for the time a node needs to read a new secret. */
const MARGIN_MS = 50;
/**
 * Longer than any commit takes. A node that has just started uses it to know that a record dated earlier has been
 * committed.
 */
const COMMIT_MS_MAX: number = MINUTE_MS;

/** A tag secret as shown to administrators. */
export interface IdTagSecret {
  readonly number: number;
  readonly createdAt: Date;
  readonly retiredAt: Date | null;
  /** Whether its row is damaged. Ids that it may have tagged are then looked up in the database. */
  readonly quarantined: boolean;
}

/** A change to commit, and the secret as it is after it. */
export interface IdTagChange extends Conditional {
  readonly changes: readonly RowChange[];
  readonly events: readonly [AuditEvent, ...AuditEvent[]];
  readonly secret: IdTagSecret;
}

interface LoadedSecret {
  readonly record: IdTagSecretRecord;
  /** Null: its row is damaged. */
  readonly secret: KeyObject | null;
  /**
   * The sealed value, which identifies this secret. After a failover that lost a secret, another can have the same
   * number.
   */
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
  /** The highest number known from the list and from any key. */
  #newestNumber = 0;
  /** Whether an id without a valid tag is certainly not of this database. */
  #isConclusive = false;
  /** From the sealed value to the monotonic time since which this node knows it, and so since which it is committed. */
  #knownSinceMs = new Map<string, number>();
  readonly #loads = new LoadOrder();

  constructor(deps: {
    readonly rows: IdTagRows;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly sealer: Sealer;
    readonly clock: Clock;
    readonly stalenessMaxMs: number;
    /** Called once for each secret whose row is damaged. */
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

  /** Loads the stored secrets, and creates one if there is none that new ids can use. */
  async start(by: AuditContext): Promise<void> {
    try {
      const { change: made } = await runAsProcess(by, {
        load: () => this.load(),
        // Another node that starts at the same time may have created one. It is then loaded, and none is needed.
        decide: () => (this.#needsOne() ? this.#added(by) : null),
        commit: (change) => this.commit(change),
      });
      if (made !== null) await this.load();
    } catch (error) {
      // With a damaged data key no new keys can be created, but existing keys are verified.
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
   * A new id, and the number of the secret that tagged it: the newest one that every node has read by now, so that no
   * node takes the id for forged.
   *
   * @throws PantheonError `store_unavailable` while no secret has been read by every node, which lasts about a second.
   */
  newId(): { readonly id: string; readonly number: number } {
    const usable = this.#secrets.filter((one) => one.secret !== null && this.#isReadEverywhere(one));
    // A retired secret is used while its successor is too new: ids that it tags are looked up, so they are not refused.
    const chosen = usable.find(({ record }) => record.retiredAt === null) ?? usable[0];
    if (chosen?.secret != null) return { id: taggedId(chosen.secret), number: chosen.record.number };
    const detail = 'Every node must first read the secret for new ids. See: pantheon-auth id-tags list';
    throw new PantheonError('store_unavailable', { detail, retryAfterSeconds: 1 });
  }

  /** The number of the secret that tagged this id; null: none. */
  numberOf(id: string): number | null {
    const found = this.#secrets.find(({ secret }) => secret !== null && isTaggedBy(id, secret));
    return found?.record.number ?? null;
  }

  /** The newest first. */
  list(): readonly IdTagSecret[] {
    return this.#secrets.map(({ record, secret }) => toIdTagSecret(record, secret === null));
  }

  /**
   * The change that adds a secret. New ids use it as soon as every node has read it. @throws PantheonError
   * `not_allowed`.
   */
  async decideAdd(by: AuditContext): Promise<IdTagChange> {
    if (this.#activeCount() >= TAG_SECRETS_ACTIVE_MAX) {
      const detail = `There are ${TAG_SECRETS_ACTIVE_MAX} that are not retired. Retire one first.`;
      throw new PantheonError('not_allowed', { detail });
    }
    return this.#added(by);
  }

  /**
   * The change that retires a secret. Ids that it tagged are looked up from then on, in the lane for doubtful ids.
   * Retiring the last active one adds a successor in the same commit. Null: it is retired already.
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
      // After a conflict or an unknown outcome the list is reloaded. An error of that reload is ignored in favour of
      // the first.
      await this.load().catch(() => {});
      throw error;
    }
    // The change is committed, so an error of the reload is ignored: the feed reloads with the event.
    await this.load().catch(() => {});
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

  /** Also true for the first secret of a database: while there is no other, no id is taken for forged. */
  #isReadEverywhere({ record, sealed }: LoadedSecret): boolean {
    if (record.number === 1) return true;
    const knownForMs = this.#clock.monotonicMs() - (this.#knownSinceMs.get(sealed) ?? Number.POSITIVE_INFINITY);
    const ageMs = this.#clock.now() - record.createdAt;
    return knownForMs >= this.#settledAfterMs || ageMs >= COMMIT_MS_MAX + this.#settledAfterMs;
  }

  /** Reloads the list. */
  async load(): Promise<void> {
    const load = this.#loads.begin();
    const rows = await this.#rows.newest(TAG_SECRETS_LOADED_MAX);
    const { hasUntagged, newestNumber } = await this.#rows.idsInUse();
    const nowMs = this.#clock.monotonicMs();
    const loaded = await Promise.all(rows.map((row) => this.#open(row)));
    if (!this.#loads.accepts(load)) return;
    this.#knownSinceMs = new Map(loaded.map(({ sealed }) => [sealed, this.#knownSinceMs.get(sealed) ?? nowMs]));
    const unread = new Set(this.#secrets.flatMap(({ secret, sealed }) => (secret === null ? [sealed] : [])));
    this.#secrets = loaded;
    const newest = Math.max(0, ...loaded.map(({ record }) => record.number));
    this.#newestNumber = Math.max(newest, newestNumber ?? 0);
    // Numbers have no gaps, so the list is complete if it has as many rows as the highest number.
    const areAllRead = newest > 0 && loaded.length === newest && loaded.every(({ secret }) => secret !== null);
    this.#isConclusive = areAllRead && !hasUntagged && this.#newestNumber === newest;
    for (const { error, sealed } of loaded) if (error !== null && !unread.has(sealed)) this.#onQuarantine(error);
  }

  /** A damaged row must not prevent loading the others, nor stop the event feed, which calls this. */
  async #open(row: AsStored<IdTagSecretRow>): Promise<LoadedSecret & { readonly error: PantheonError | null }> {
    const record = fromRow(row);
    const sealed = isUint8Array(row.sealed) ? row.sealed : new Uint8Array();
    const name = `${record.number} ${Buffer.from(sealed).toString('base64')}`;
    try {
      if (undamaged<IdTagSecretRow>(row) === null)
        throw new PantheonError('key_quarantined', {
          detail: `A number in the row of tag secret ${row.number} is out of range.`,
        });
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

/** A damaged number becomes 0: no secret has this number, and none was retired or created so long ago. */
function fromRow(row: AsStored<IdTagSecretRow>): IdTagSecretRecord {
  const known = (cell: number | bigint): number => (typeof cell === 'number' ? cell : 0);
  return {
    number: known(row.number),
    createdAt: known(row.created_at),
    retiredAt: row.retired_at === null ? null : known(row.retired_at),
    revision: known(row.revision),
  };
}
