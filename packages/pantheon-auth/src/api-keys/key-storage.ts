/**
 * Keys at rest: seals what nobody may read and binds each row to what it says, so that a row changed behind our back does
 * not open. What is in which column is `key-row-mapping.ts`. Reads go through `KeyRows`, writes through the ledger.
 */
import { createHash } from 'node:crypto';
import { isUint8Array } from 'node:util/types';
import { firstExpiryLook } from '../domain/expiry-notices.ts';
import type { KeyChange, KeyEvent, KeyRecord, KeyVersion } from '../domain/key.ts';
import type { StoredRevision } from '../domain/revision.ts';
import { firstLookAt, retiresWhenNextIsUsed } from '../domain/rotation-schedule.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { IdempotencyRecord, Ledger, Precondition, RowChange } from '../events/ledger.ts';
import type { Lane } from '../events/write-lanes.ts';
import { earlier, type Instant } from '../foundation/clock.ts';
import { canonicalJson, type JsonObject } from '../foundation/encoding.ts';
import { isErrorLike, PantheonError } from '../foundation/errors.ts';
import type { ListPart } from '../foundation/list-part.ts';
import { inTurns } from '../foundation/turns.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import type { ApiKeyRow, ApiKeyVersionRow } from '../schema/api-key-row.ts';
import { type AsStored, undamaged } from '../schema/as-stored.ts';
import type { KeyScheduleWrite } from '../schema/key-schedule-row.ts';
import { tenantFromRow } from '../tenants/tenant-storage.ts';
import type { DamagedKey, KeySource, StoredKey, VersionSecret } from '../verification/stored-key.ts';
import {
  keyFromRows,
  keyToRow,
  type OpenKeyRow,
  type OpenVersionRow,
  settingsToSeal,
  versionsToHave,
  versionToRow,
} from './key-row-mapping.ts';
import type { KeyListQuery, KeyPlace, KeyRowSet, KeyRows } from './key-rows.ts';
import type { NextSecrets } from './next-secrets.ts';

/** Of the largest keys, a few milliseconds. */
const OPENED_PER_TURN = 1;

/** A damaged key: it can be listed and revoked, not used. */
export interface QuarantinedKey {
  readonly id: string;
  /** 1970-01-01 if the row does not tell. */
  readonly createdAt: Instant;
  readonly quarantined: true;
}

/** A change with the secrets of the versions that the record has after it. */
export interface SealedChange {
  readonly change: KeyChange;
  readonly secrets: readonly VersionSecret[];
  /** What else must still be as it was read. */
  readonly preconditions?: readonly Precondition[];
  /** The revision in the row of a damaged key, which may not be the one that its events give. */
  readonly revisionAsStored?: StoredRevision | undefined;
  /** The secret of the new current version, encrypted to the recipient of the key, which waits for the holder. */
  readonly nextJwe?: string;
}

/** The precondition that the key has not changed since it was read. */
export function keyAsRead({ id, tenantId, revision }: Pick<KeyRecord, 'id' | 'tenantId' | 'revision'>): Precondition {
  return { kind: 'row', table: 'api_keys', where: { id, tenant_id: tenantId }, revision };
}

export class KeyStorage implements KeySource {
  readonly #rows: KeyRows;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #sealer: Sealer;
  readonly #nextSecrets: NextSecrets;
  readonly #expiryNotices: readonly number[];
  /** The rows that were opened last, still sealed. */
  #openedLast: KeyRowSet | null = null;

  constructor(deps: {
    readonly rows: KeyRows;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly sealer: Sealer;
    readonly nextSecrets: NextSecrets;
    /** How long ahead the expiry of a key is announced, in seconds. */
    readonly expiryNotices: readonly number[];
  }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#sealer = deps.sealer;
    this.#nextSecrets = deps.nextSecrets;
    this.#expiryNotices = deps.expiryNotices;
  }

  /**
   * One read, of any tenant.
   *
   * @throws PantheonError `key_quarantined` when a row of this key does not open, `store_unavailable`.
   */
  async find(id: string): Promise<StoredKey | null> {
    const found = await this.findToVerify(id);
    if (found !== null && 'error' in found) throw found.error;
    return found;
  }

  /** The same for a verification, which has to tell who holds the secret of a damaged key. @throws PantheonError `store_unavailable`. */
  async findToVerify(id: string): Promise<StoredKey | DamagedKey | null> {
    let rows: KeyRowSet | null = null;
    try {
      rows = await this.#rows.find(id);
      if (rows === null) {
        await this.#openDecoy();
        return null;
      }
      const stored = await this.#open(rows);
      this.#openedLast = rows;
      return stored;
    } catch (error) {
      if (!isQuarantined(error)) throw error;
      return { error, secrets: rows === null ? null : await this.#secretsOfDamaged(rows) };
    }
  }

  /** Null unless every version that the key has had lately is there and opens: whoever matches none then holds none. */
  async #secretsOfDamaged(rows: KeyRowSet): Promise<readonly VersionSecret[] | null> {
    try {
      const { key, versions } = undamagedRows(rows);
      if (!isEveryVersion(versionsOf(key), versions)) return null;
      return await Promise.all(versions.map((row) => this.#openVersion(row)));
    } catch (error) {
      if (!isQuarantined(error)) throw error;
      return null;
    }
  }

  /** Decryption is most of the time of a cold read. Without this, the time would reveal which ids exist (I12). */
  async #openDecoy(): Promise<void> {
    if (this.#openedLast === null) return;
    try {
      await this.#open(this.#openedLast);
    } catch {
      this.#openedLast = null; // Its data key is out of reach by now. It proved nothing about the id that was asked for.
    }
  }

  /** The same within one tenant: a key of another tenant counts as not existing, also when it is damaged (I10). */
  async findIn(tenantId: string, id: string, lane?: Lane): Promise<StoredKey | null> {
    const rows = await this.#rows.find(id, lane);
    return rows === null || rows.key.tenant_id !== tenantId ? null : this.#open(rows);
  }

  /** The revision in the row of a key, readable or not. Null: the tenant has no such key. */
  async revisionAsStored(tenantId: string, id: string, lane: Lane): Promise<StoredRevision | null> {
    const rows = await this.#rows.find(id, lane);
    return rows === null || rows.key.tenant_id !== tenantId ? null : rows.key.revision;
  }

  /** A page of keys, newest first. A damaged key is listed as quarantined. */
  async list(query: KeyListQuery, signal?: AbortSignal): Promise<ListPart<StoredKey | QuarantinedKey, KeyPlace>> {
    const { items, next } = await this.#rows.list(query, signal);
    return {
      items: await inTurns(items, { perTurn: OPENED_PER_TURN, signal }, (rows) => this.#openOrName(rows)),
      next,
    };
  }

  administrators(now: number): Promise<readonly string[]> {
    return this.#rows.administrators(now);
  }

  /** Writes the changes and their events in one transaction. */
  async commit(
    sealed: readonly [SealedChange, ...SealedChange[]],
    idempotencyRecords: readonly IdempotencyRecord[] = [],
  ): Promise<void> {
    const [first, ...rest] = sealed;
    const changes = await Promise.all(sealed.map((one) => this.#rowChanges(one)));
    const events = await this.#events.toRows([...first.change.events, ...rest.flatMap(({ change }) => change.events)]);
    const preconditions = sealed.flatMap((one) => one.preconditions ?? []);
    const keySchedules = sealed.flatMap((one) => scheduleAfter(one, this.#lookAt(one.change.record)));
    await this.#ledger.commit({ changes: changes.flat(), events, idempotencyRecords, preconditions, keySchedules });
  }

  /** When to look at a key after a change; null: never. */
  #lookAt(record: KeyRecord): Instant | null {
    return earlier(firstLookAt(record), firstExpiryLook(record, this.#expiryNotices));
  }

  async #rowChanges({ change, secrets, nextJwe, revisionAsStored }: SealedChange): Promise<RowChange[]> {
    const { record, expectedRevision } = change;
    const row = await this.#sealKey(record);
    const versions = await Promise.all(
      record.versions.map((version) => this.#sealVersion(record, version, secretOf(secrets, version.version))),
    );
    const inserts = versions.map((version): RowChange => ({ kind: 'insert', table: 'api_key_versions', row: version }));
    if (expectedRevision === null) return [{ kind: 'insert', table: 'api_keys', row }, ...inserts];
    const where = { id: record.id, tenant_id: record.tenantId };
    // Versions are few and change together with the key: they are written anew, so none can be left behind.
    return [
      { kind: 'update', table: 'api_keys', where, set: row, expectedRevision, revisionAsStored },
      { kind: 'delete', table: 'api_key_versions', where: { key_id: record.id, tenant_id: record.tenantId } },
      ...inserts,
      ...(await this.#nextSecrets.changesFor(change, nextJwe)),
    ];
  }

  async #sealKey(record: KeyRecord): Promise<ApiKeyRow> {
    const plain = keyToRow(record);
    const sealed = JSON.stringify({ row: rowHash(plain), ...settingsToSeal(record) });
    return { ...plain, sealed: await this.#sealer.seal(keyContext(plain), Buffer.from(sealed, 'utf8')) };
  }

  async #sealVersion(record: KeyRecord, version: KeyVersion, secret: VersionSecret): Promise<ApiKeyVersionRow> {
    const plain = versionToRow(record, version);
    const signing = record.jwt?.algorithm === 'HS256' ? secret.signing : null;
    const sealed = JSON.stringify({
      row: rowHash(plain),
      keyHash: secret.keyHash.toString('base64'),
      signing: signing === null ? null : { kid: signing.kid, secret: signing.secret.toString('base64') },
    });
    return { ...plain, sealed: await this.#sealer.seal(versionContext(plain), Buffer.from(sealed, 'utf8')) };
  }

  async #openOrName(rows: KeyRowSet): Promise<StoredKey | QuarantinedKey> {
    try {
      return await this.#open(rows);
    } catch (error) {
      if (!isQuarantined(error)) throw error;
      const { id, created_at: createdAt } = rows.key;
      return { id, createdAt: typeof createdAt === 'number' ? createdAt : 0, quarantined: true };
    }
  }

  async #open(rows: KeyRowSet): Promise<StoredKey> {
    const { key, versions } = undamagedRows(rows);
    const { sealed, ...plain } = key;
    const opened = await this.#openBound(keyContext(plain), sealed, plain);
    const secrets = await Promise.all(versions.map((row) => this.#openVersion(row)));
    const record = readable(plain.id, () => keyFromRows(plain, versions, opened));
    assertWhole(record, versionsOf(plain), versions);
    const { tenant } = rows;
    if (tenant === null) throw quarantined(record.id, 'its tenant is missing');
    return { record, secrets, tenant: readable(record.id, () => tenantFromRow(tenant)) };
  }

  async #openVersion(row: ApiKeyVersionRow): Promise<VersionSecret> {
    const { sealed, ...plain } = row;
    const { keyHash, signing } = (await this.#openBound(versionContext(plain), sealed, plain)) as {
      keyHash: string;
      signing: { kid: string; secret: string } | null;
    };
    return {
      version: plain.version,
      keyHash: Buffer.from(keyHash, 'base64'),
      signing: signing === null ? null : { kid: signing.kid, secret: Buffer.from(signing.secret, 'base64') },
    };
  }

  /** Opens a sealed value and checks that the row around it says what it said when it was sealed. */
  async #openBound(
    place: EncryptionContext,
    sealed: Uint8Array,
    plain: OpenKeyRow | OpenVersionRow,
  ): Promise<JsonObject> {
    if (!isUint8Array(sealed)) throw quarantined(place.rowId, 'the sealed value is missing');
    const opened = JSON.parse((await this.#sealer.open(place, sealed)).toString('utf8')) as JsonObject;
    if (opened['row'] !== rowHash(plain)) throw quarantined(place.rowId, 'the row was changed outside of this service');
    return opened;
  }
}

/** How a change of the key changes its schedule. A new key without a rotation policy and an expiry gets no row. */
function scheduleAfter({ change, nextJwe }: SealedChange, lookAt: Instant | null): readonly KeyScheduleWrite[] {
  const { record, expectedRevision, events } = change;
  const { id: keyId, tenantId, revision, version } = record;
  const about = { keyId, tenantId, revision };
  if (expectedRevision === null) return lookAt === null ? [] : [{ kind: 'created', ...about, lookAt }];
  if (record.state.kind === 'revoked') return [{ kind: 'ended', keyId, tenantId }];
  const awaitsUseOf = nextJwe !== undefined || retiresWhenNextIsUsed(record) !== null ? version : null;
  const resetsAnnouncements = events.some((event) => event.type === 'key.resumed' || changesSchedule(event));
  return [{ kind: 'changed', ...about, isScheduled: lookAt !== null, awaitsUseOf, resetsAnnouncements }];
}

/** Whether the times that were announced are no longer right. */
function changesSchedule(event: KeyEvent): boolean {
  const decisive = ['rotation', 'notBefore', 'expiresAt'] as const;
  return event.type === 'key.updated' && decisive.some((name) => event.after[name] !== undefined);
}

/** Each row is bound to what it says; that they belong together is told by the key: its versions follow each other, and all were written with it. */
function assertWhole({ id, revision }: KeyRecord, numbers: readonly number[], rows: readonly ApiKeyVersionRow[]): void {
  if (!isEveryVersion(numbers, rows)) throw quarantined(id, 'a version is missing');
  if (!rows.every((row) => row.revision === revision)) throw quarantined(id, 'its rows are of different times');
}

/** What this version cannot read is not read past: an unknown state, a setting that a later version knows. */
function readable<T>(keyId: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw quarantined(keyId, isErrorLike(cause) ? cause.message : 'it cannot be read');
  }
}

/** @throws PantheonError `key_quarantined` when a number of the key or of a version is damaged. */
function undamagedRows({ key, versions }: KeyRowSet): {
  readonly key: ApiKeyRow;
  readonly versions: readonly ApiKeyVersionRow[];
} {
  const readableRow = <Row extends object>(row: AsStored<Row>): Row => {
    const found = undamaged<Row>(row);
    if (found === null) throw quarantined(key.id, 'a number in its rows is out of range');
    return found;
  };
  return { key: readableRow<ApiKeyRow>(key), versions: versions.map((row) => readableRow<ApiKeyVersionRow>(row)) };
}

function isEveryVersion(numbers: readonly number[], rows: readonly ApiKeyVersionRow[]): boolean {
  return rows.length === numbers.length && rows.every((row, at) => row.version === numbers[at]);
}

function versionsOf(row: OpenKeyRow): readonly number[] {
  return readable(row.id, () => versionsToHave(row));
}

function quarantined(rowId: string, why: string): PantheonError {
  return new PantheonError('key_quarantined', { detail: `Key ${rowId}: ${why}.` });
}

function isQuarantined(error: unknown): error is PantheonError {
  return error instanceof PantheonError && error.code === 'key_quarantined';
}

function secretOf(secrets: readonly VersionSecret[], version: number): VersionSecret {
  const secret = secrets.find((one) => one.version === version);
  if (secret === undefined) throw new Error(`Invariant broken: version ${version} has its secret`);
  return secret;
}

function keyContext({ id, tenant_id: tenantId }: OpenKeyRow): EncryptionContext {
  return { table: 'api_keys', column: 'sealed', tenantId, rowId: id, version: 0 };
}

function versionContext({ key_id: rowId, tenant_id: tenantId, version }: OpenVersionRow): EncryptionContext {
  return { table: 'api_key_versions', column: 'sealed', tenantId, rowId, version };
}

/** Null columns are omitted, so that the hash of existing rows stays valid when a column is added. */
function rowHash(plain: OpenKeyRow | OpenVersionRow): string {
  const said = Object.fromEntries(Object.entries(plain).filter(([, cell]) => cell !== null));
  return createHash('sha256').update(canonicalJson(said)).digest('base64');
}
