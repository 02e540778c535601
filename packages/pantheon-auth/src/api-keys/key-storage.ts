/**
 * Keys at rest: maps records and secrets to rows and back, seals what nobody may read and binds each row to what it
 * says, so that a row changed behind our back does not open. Reads go through `KeyRows`, writes through the ledger.
 */
import { createHash } from 'node:crypto';
import { isUint8Array } from 'node:util/types';
import {
  type JwtSettings,
  type KeyChange,
  type KeyRecord,
  type KeySettings,
  type KeyState,
  type KeyVersion,
  VERSIONS_KEPT_MAX,
} from '../domain/key.ts';
import { settingsFromWire, settingsToWire } from '../domain/key-wire.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Cell, IdempotencyRecord, Ledger, Precondition, Row, RowChange } from '../events/ledger.ts';
import type { Instant } from '../foundation/clock.ts';
import { canonicalJson, type JsonObject } from '../foundation/encoding.ts';
import { isErrorLike, PantheonError } from '../foundation/errors.ts';
import type { ListPart } from '../foundation/list-part.ts';
import { inTurns } from '../foundation/turns.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import { tenantFromRow } from '../tenants/tenant-storage.ts';
import type { DamagedKey, KeySource, StoredKey, VersionSecret } from '../verification/stored-key.ts';
import type { KeyListQuery, KeyPlace, KeyRowSet, KeyRows } from './key-rows.ts';
import { jsonOrNull, numberOrNull, parseOrNull, text, textOrNull } from './row-cells.ts';

/** Of the largest keys, a few milliseconds. */
const OPENED_PER_TURN = 1;

/** A key whose row does not open: it can be named and revoked, not used. */
export interface QuarantinedKey {
  readonly id: string;
  readonly createdAt: Instant;
  readonly quarantined: true;
}

/** A change with the secrets of the versions that the record has after it. */
export interface SealedChange {
  readonly change: KeyChange;
  readonly secrets: readonly VersionSecret[];
  /** What else must still be as it was read. */
  readonly preconditions?: readonly Precondition[];
}

/** That the key is as it was read, as a precondition of a commit. */
export function keyAsRead({ id, tenantId, revision }: Pick<KeyRecord, 'id' | 'tenantId' | 'revision'>): Precondition {
  return { kind: 'row', table: 'api_keys', where: { id, tenant_id: tenantId }, revision };
}

export class KeyStorage implements KeySource {
  readonly #rows: KeyRows;
  readonly #ledger: Ledger;
  readonly #events: EventCodec;
  readonly #sealer: Sealer;
  /** The rows that were opened last, still sealed. */
  #openedLast: KeyRowSet | null = null;

  constructor(deps: {
    readonly rows: KeyRows;
    readonly ledger: Ledger;
    readonly events: EventCodec;
    readonly sealer: Sealer;
  }) {
    this.#rows = deps.rows;
    this.#ledger = deps.ledger;
    this.#events = deps.events;
    this.#sealer = deps.sealer;
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
  async #secretsOfDamaged({ key, versions }: KeyRowSet): Promise<readonly VersionSecret[] | null> {
    if (!isEveryVersion(Number(key['version']), versions)) return null;
    try {
      return await Promise.all(versions.map((row) => this.#openVersion(row)));
    } catch (error) {
      if (!isQuarantined(error)) throw error;
      return null;
    }
  }

  /** Opening is most of a cold read: without this, time would tell which ids exist (I12). */
  async #openDecoy(): Promise<void> {
    if (this.#openedLast === null) return;
    try {
      await this.#open(this.#openedLast);
    } catch {
      this.#openedLast = null; // Its data key is out of reach by now. It proved nothing about the id that was asked for.
    }
  }

  /** The same within one tenant: what another one owns does not exist, also when it does not open (I10). */
  async findIn(tenantId: string, id: string): Promise<StoredKey | null> {
    const rows = await this.#rows.find(id);
    return rows === null || rows.key['tenant_id'] !== tenantId ? null : this.#open(rows);
  }

  /** A page of keys, newest first; one that does not open is named, and the others are shown. */
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
    const changes = await Promise.all(sealed.map(({ change, secrets }) => this.#rowChanges(change, secrets)));
    const events = await this.#events.toRows([...first.change.events, ...rest.flatMap(({ change }) => change.events)]);
    const preconditions = sealed.flatMap((one) => one.preconditions ?? []);
    await this.#ledger.commit({ changes: changes.flat(), events, idempotencyRecords, preconditions });
  }

  async #rowChanges(change: KeyChange, secrets: readonly VersionSecret[]): Promise<RowChange[]> {
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
      { kind: 'update', table: 'api_keys', where, set: row, expectedRevision },
      { kind: 'delete', table: 'api_key_versions', where: { key_id: record.id, tenant_id: record.tenantId } },
      ...inserts,
    ];
  }

  async #sealKey(record: KeyRecord): Promise<Row> {
    const plain = keyToRow(record);
    const { jwt, metadata } = settingsToWire(record);
    const sealed = JSON.stringify({ row: rowHash(plain), jwt, metadata });
    return { ...plain, sealed: await this.#sealer.seal(keyContext(record), Buffer.from(sealed, 'utf8')) };
  }

  async #sealVersion(record: KeyRecord, version: KeyVersion, secret: VersionSecret): Promise<Row> {
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
      return { id: String(rows.key['id']), createdAt: Number(rows.key['created_at']), quarantined: true };
    }
  }

  async #open(rows: KeyRowSet): Promise<StoredKey> {
    const { sealed, ...plain } = rows.key;
    const opened = await this.#openBound(
      keyContext({ id: text(plain['id']), tenantId: text(plain['tenant_id']) }),
      sealed,
      plain,
    );
    const secrets = await Promise.all(rows.versions.map((row) => this.#openVersion(row)));
    const record = readable(text(plain['id']), () => keyFromRows(plain, rows.versions, opened));
    assertWhole(record, rows.versions);
    const { tenant } = rows;
    if (tenant === null) throw quarantined(record.id, 'its tenant is missing');
    return { record, secrets, tenant: readable(record.id, () => tenantFromRow(tenant)) };
  }

  async #openVersion(row: Row): Promise<VersionSecret> {
    const { sealed, ...plain } = row;
    const { keyHash, signing } = (await this.#openBound(versionContext(plain), sealed, plain)) as {
      keyHash: string;
      signing: { kid: string; secret: string } | null;
    };
    return {
      version: Number(plain['version']),
      keyHash: Buffer.from(keyHash, 'base64'),
      signing: signing === null ? null : { kid: signing.kid, secret: Buffer.from(signing.secret, 'base64') },
    };
  }

  /** Opens a sealed value and checks that the row around it says what it said when it was sealed. */
  async #openBound(place: EncryptionContext, sealed: Cell | undefined, plain: Row): Promise<JsonObject> {
    if (!isUint8Array(sealed)) throw quarantined(place.rowId, 'the sealed value is missing');
    const opened = JSON.parse((await this.#sealer.open(place, sealed)).toString('utf8')) as JsonObject;
    if (opened['row'] !== rowHash(plain)) throw quarantined(place.rowId, 'the row was changed outside of this service');
    return opened;
  }
}

/** Each row is bound to what it says; that they belong together is told by the key: its versions follow each other, and all were written with it. */
function assertWhole({ id, version, revision }: KeyRecord, rows: readonly Row[]): void {
  if (!isEveryVersion(version, rows)) throw quarantined(id, 'a version is missing');
  if (!rows.every((row) => row['revision'] === revision)) throw quarantined(id, 'its rows are of different times');
}

/** What this version cannot read is not read past: an unknown state, a setting that a later version knows. */
function readable<T>(keyId: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw quarantined(keyId, isErrorLike(cause) ? cause.message : 'it cannot be read');
  }
}

/** They are the current version and those before it, without a gap. */
function isEveryVersion(current: number, rows: readonly Row[]): boolean {
  const isEveryOne = rows.length === Math.min(current, VERSIONS_KEPT_MAX);
  return isEveryOne && rows.every((row, at) => Number(row['version']) === current - at);
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

function keyContext(key: { readonly id: string; readonly tenantId: string }): EncryptionContext {
  return { table: 'api_keys', column: 'sealed', tenantId: key.tenantId, rowId: key.id, version: 0 };
}

function versionContext(row: Row): EncryptionContext {
  return {
    table: 'api_key_versions',
    column: 'sealed',
    tenantId: text(row['tenant_id']),
    rowId: text(row['key_id']),
    version: Number(row['version']),
  };
}

/** What is null is left out, so that a column that comes later leaves the rows of today as they were. */
function rowHash(plain: Row): string {
  const said = Object.fromEntries(Object.entries(plain).filter(([, cell]) => cell !== null));
  return createHash('sha256').update(canonicalJson(said)).digest('base64');
}

function keyToRow(record: KeyRecord): Row {
  const wire = settingsToWire(record);
  return {
    id: record.id,
    tenant_id: record.tenantId,
    user_id: record.userId,
    name: record.name,
    description: record.description,
    environment: record.environment,
    permissions: JSON.stringify(record.permissions),
    grantable: JSON.stringify(record.grantable),
    state: record.state.kind,
    state_at: record.state.kind === 'active' ? null : record.state.at,
    state_reason: record.state.kind === 'active' ? null : record.state.reason,
    created_at: record.createdAt,
    created_by: record.createdBy,
    not_before: record.notBefore,
    expires_at: record.expiresAt,
    tokens_not_before: record.tokensNotBefore,
    rate_limits: JSON.stringify(wire['rateLimits']),
    quota: jsonOrNull(wire['quota']),
    ip_allowlist: JSON.stringify(record.ipAllowlist),
    rotation: jsonOrNull(wire['rotation']),
    jwt_algorithm: record.jwt?.algorithm ?? null,
    version: record.version,
    revision: record.revision,
    id_tag: record.idTag,
  };
}

function versionToRow(record: KeyRecord, version: KeyVersion): Row {
  return {
    key_id: record.id,
    tenant_id: record.tenantId,
    version: version.version,
    created_at: version.createdAt,
    accepted_until: version.acceptedUntil,
    revision: record.revision,
  };
}

function keyFromRows(row: Row, versions: readonly Row[], opened: JsonObject): KeyRecord {
  return {
    ...settingsOf(row, opened),
    // Read as they are: instants pass through the wire form only at the edges.
    notBefore: numberOrNull(row['not_before']),
    expiresAt: numberOrNull(row['expires_at']),
    id: text(row['id']),
    tenantId: text(row['tenant_id']),
    createdAt: Number(row['created_at']),
    createdBy: textOrNull(row['created_by']),
    state: stateOf(row),
    tokensNotBefore: numberOrNull(row['tokens_not_before']),
    version: Number(row['version']),
    versions: versions.map((version) => ({
      version: Number(version['version']),
      createdAt: Number(version['created_at']),
      acceptedUntil: numberOrNull(version['accepted_until']),
    })),
    revision: Number(row['revision']),
    idTag: numberOrNull(row['id_tag']),
  };
}

function settingsOf(row: Row, opened: JsonObject): KeySettings & { readonly jwt: JwtSettings | null } {
  return settingsFromWire({
    userId: text(row['user_id']),
    name: text(row['name']),
    description: textOrNull(row['description']),
    environment: text(row['environment']),
    permissions: JSON.parse(text(row['permissions'])),
    grantable: JSON.parse(text(row['grantable'])),
    rateLimits: JSON.parse(text(row['rate_limits'])),
    quota: parseOrNull(row['quota']),
    ipAllowlist: JSON.parse(text(row['ip_allowlist'])),
    rotation: parseOrNull(row['rotation']),
    jwt: opened['jwt'] ?? null,
    metadata: opened['metadata'] ?? null,
  });
}

function stateOf(row: Row): KeyState {
  const kind = row['state'];
  if (kind === 'active') return { kind };
  if (kind === 'suspended' || kind === 'revoked') {
    return { kind, at: Number(row['state_at']), reason: textOrNull(row['state_reason']) };
  }
  throw new Error('Its state is one that this version does not know.');
}
