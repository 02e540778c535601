/**
 * An API key: what it is, and how events change it. `evolve` is the only way a record changes, so replaying a key's
 * events gives its record. Whether a change is *allowed* is `key-policy.ts`; whether the key may *act* is
 * `verification.ts`. Secrets are not here: they belong to `api-keys/key-storage.ts`.
 */
import { type Instant, SECOND_MS } from '../foundation/clock.ts';
import { assertNever, invariant, PantheonError } from '../foundation/errors.ts';
import {
  type AuditContext,
  type EventAbout,
  type EventOf,
  type EventTypeOf,
  type KnownEvent,
  type NewEvent,
  newEvent,
} from './event.ts';
import { isKeyNote, type KeyNote } from './event-data.ts';
import type { KeyChange, KeyEvent, KeyRecord, KeyState } from './key-record.ts';
import type { KeySettings } from './key-settings.ts';
import {
  makeVersion,
  newestVersionNumber,
  previousVersion,
  rolledBack,
  rotated,
  versionRetired,
  versionState,
} from './key-versions.ts';
import { changedSettings, settingsFromWire, settingsToWire } from './key-wire.ts';

export type { KeyChange, KeyEvent, KeyRecord, KeyState, KeyVersion } from './key-record.ts';
export { VERSIONS_KEPT_MAX } from './key-record.ts';
export type { Environment, JwtSettings, KeySettings, RotationSettings } from './key-settings.ts';
export { ANY_ENVIRONMENT } from './key-settings.ts';
export { type VersionState, versionState } from './key-versions.ts';

/** Each replacement within a second dates the secret, and so its tokens, a second further ahead: no more than clocks differ. */
const REPLACED_AHEAD_MAX_MS: number = 5 * SECOND_MS;

/** The only way a key changes. */
export function evolve(record: KeyRecord | null, event: EventAbout<'key'>): KeyRecord {
  if (event.type === 'key.created') {
    invariant(record === null && event.after !== null, 'a key is created once, with its settings');
    const { createdBy, idTag } = event.after;
    return {
      ...settingsFromWire(event.after),
      id: event.subject.id,
      tenantId: event.tenantId,
      createdAt: event.at,
      createdBy: typeof createdBy === 'string' ? createdBy : null,
      state: { kind: 'active' },
      tokensNotBefore: null,
      version: 1,
      versions: [makeVersion(1, event.at)],
      revision: 1,
      idTag: typeof idTag === 'number' ? idTag : null,
    };
  }
  invariant(record !== null, 'a key is created before it changes');
  // Facts about the key that change nothing of it.
  if (isAside(event)) return record;
  const next = { ...record, ...changed(record, event), revision: record.revision + 1 };
  // Whatever a late or forged event says: nothing brings a revoked key back (I6).
  return record.state.kind === 'revoked' ? { ...next, state: record.state } : next;
}

type AsideEvent = KnownEvent<KeyNote>;

function isAside(event: EventAbout<'key'>): event is AsideEvent {
  return isKeyNote(event.type);
}

/** What is left when the events that make a key, and those that change nothing of it, are dealt with. */
type ChangingEvent = Exclude<EventAbout<'key'>, KnownEvent<'key.created'> | AsideEvent>;

function changed(record: KeyRecord, event: ChangingEvent): Partial<KeyRecord> {
  switch (event.type) {
    case 'key.updated':
      return settingsFromWire({ ...settingsToWire(record), ...event.after });
    case 'key.suspended':
      return { state: { kind: 'suspended', at: event.at, reason: event.reason } };
    case 'key.resumed':
      return { state: { kind: 'active' } };
    case 'key.revoked':
      return { state: { kind: 'revoked', at: event.at, reason: event.reason } };
    case 'key.tokens_revoked':
      // Never earlier than it was: the clock of another node must not bring dead tokens back.
      return { tokensNotBefore: Math.max(record.tokensNotBefore ?? event.at, event.at) };
    case 'key.rotated':
      return rotated(record, event);
    case 'key.rolled_back':
      return rolledBack(record, event);
    case 'key.version_retired':
      return versionRetired(record, event);
    case 'key.secret_replaced': {
      const said = event.after?.createdAt;
      // Events of earlier versions of this program do not say it.
      const createdAt = typeof said === 'string' ? Date.parse(said) : event.at;
      const versions = record.versions.map((v) => (v.version === record.version ? { ...v, createdAt } : v));
      return { versions };
    }
    case 'key.dates_corrected':
      return datesUpTo(record, event.at);
    case 'unknown':
      throw new Error(`Not an event that changes a key: ${event.saidType}`);
    default:
      return assertNever(event);
  }
}

/** What a clock that ran ahead has dated after `at`, put right as far as the record itself tells. */
function datesUpTo(record: KeyRecord, at: Instant): Pick<KeyRecord, (typeof DATES)[number]> {
  // Made in the wrong time, its life is as long as it was meant to be.
  const aheadMs = Math.max(0, record.createdAt - at);
  const { state, tokensNotBefore, notBefore, expiresAt } = record;
  return {
    createdAt: record.createdAt - aheadMs,
    notBefore: notBefore === null ? null : notBefore - aheadMs,
    expiresAt: expiresAt === null ? null : expiresAt - aheadMs,
    tokensNotBefore: tokensNotBefore === null ? null : Math.min(tokensNotBefore, at),
    state: state.kind !== 'suspended' ? state : { ...state, at: Math.min(state.at, at) },
    // An end that lies ahead may have been "now" in the wrong time: nothing that had ended is accepted again.
    versions: record.versions.map((version) => ({
      ...version,
      createdAt: Math.min(version.createdAt, at),
      acceptedUntil: version.acceptedUntil === null ? null : Math.min(version.acceptedUntil, at),
    })),
  };
}

const DATES = ['createdAt', 'notBefore', 'expiresAt', 'tokensNotBefore', 'state', 'versions'] as const;

/** Whether the key is active and inside its life: the brief's `isActive`. */
export function isActive(record: KeyRecord, now: Instant): boolean {
  const begun = record.notBefore === null || now >= record.notBefore;
  return record.state.kind === 'active' && begun && (record.expiresAt === null || now < record.expiresAt);
}

/** A new key with version 1. */
export function createKey(
  key: {
    readonly id: string;
    readonly tenantId: string;
    readonly createdBy: string | null;
    readonly settings: KeySettings;
    readonly idTag: number;
  },
  by: AuditContext,
  at: Instant,
): KeyChange {
  const after = { ...settingsToWire(key.settings), createdBy: key.createdBy, idTag: key.idTag };
  const event = keyEvent('key.created', key, { before: null, after }, by, at);
  return { record: evolve(null, event), expectedRevision: null, events: [event] };
}

/** New settings; null when nothing would change. A revoked key does not change any more. */
export function updateKey(record: KeyRecord, settings: KeySettings, by: AuditContext, at: Instant): KeyChange | null {
  assertNotRevoked(record);
  const changes = changedSettings(record, settings);
  return changes === null ? null : change(record, keyEvent('key.updated', record, changes, by, at));
}

/** Null when it already is suspended: suspending twice is success. */
export function suspendKey(record: KeyRecord, by: AuditContext, at: Instant): KeyChange | null {
  assertNotRevoked(record);
  if (record.state.kind === 'suspended') return null;
  return change(record, keyEvent('key.suspended', record, stateChange(record, 'suspended'), by, at));
}

/** Null when it already is active. */
export function resumeKey(record: KeyRecord, by: AuditContext, at: Instant): KeyChange | null {
  assertNotRevoked(record);
  if (record.state.kind === 'active') return null;
  return change(record, keyEvent('key.resumed', record, stateChange(record, 'active'), by, at));
}

/** Null when it already is revoked: revoking twice is success, not a conflict. It is final (I6). */
export function revokeKey(record: KeyRecord, by: AuditContext, at: Instant): KeyChange | null {
  if (record.state.kind === 'revoked') return null;
  return change(record, keyEvent('key.revoked', record, stateChange(record, 'revoked'), by, at));
}

/**
 * The next version; the current one is accepted until `acceptedUntil`. While an older one is still accepted, another
 * rotation would cut its holder off, so it is refused unless `expectedVersion` shows that the caller knows.
 */
export function rotateKey(
  record: KeyRecord,
  rotation: {
    readonly acceptedUntil: Instant;
    readonly expectedVersion: number | null;
    /** Whether the previous version ends when the next one is used. */
    readonly retireOnFirstUse?: boolean;
  },
  by: AuditContext,
  at: Instant,
): KeyChange {
  assertMayHaveSecret(record, at);
  const { acceptedUntil, expectedVersion, retireOnFirstUse = false } = rotation;
  if (expectedVersion !== null && expectedVersion !== record.version) {
    throw new PantheonError('version_conflict', {
      field: 'expectedVersion',
      detail: `The current version is ${record.version}.`,
    });
  }
  const overlapping = record.versions.some((version) => versionState(version, at) === 'accepted');
  if (overlapping && expectedVersion === null) throw new PantheonError('rotation_in_progress');
  const before = { version: record.version };
  const version = newestVersionNumber(record) + 1;
  const after = { version, acceptedUntil: new Date(acceptedUntil).toISOString(), retireOnFirstUse };
  return change(record, keyEvent('key.rotated', record, { before, after }, by, at));
}

/**
 * Ends an older version now; null when it has ended, unless something of it `remains` to be ended. The current one is ended
 * by rotating or revoking. A suspended or expired key may be rid of a version as well: that only takes away.
 */
export function retireVersion(
  record: KeyRecord,
  version: number,
  by: AuditContext,
  at: Instant,
  remains = false,
): KeyChange | null {
  assertNotRevoked(record);
  const found = record.versions.find((one) => one.version === version);
  if (found === undefined) throw new PantheonError('not_found', { field: 'version' });
  if (found.acceptedUntil === null) {
    throw new PantheonError('version_conflict', {
      field: 'version',
      detail: 'The current version is ended by rotating or revoking.',
    });
  }
  if (at >= found.acceptedUntil && !remains) return null;
  return change(record, keyEvent('key.version_retired', record, { before: null, after: { version } }, by, at));
}

/**
 * Rolls the key back: the version before the current one, which must still be accepted, is current again, and the one that
 * was current is retired for ever. Its number is not given again.
 */
export function rollBackKey(record: KeyRecord, by: AuditContext, at: Instant): KeyChange {
  assertMayHaveSecret(record, at);
  const previous = previousVersion(record);
  if (previous === null || versionState(previous, at) !== 'accepted')
    throw new PantheonError('version_conflict', { detail: 'No version before the current one is still accepted.' });
  const [before, after] = [{ version: record.version }, { version: previous.version }];
  return change(record, keyEvent('key.rolled_back', record, { before, after }, by, at));
}

/**
 * Gives the current version, which nobody has used yet, another secret: the answer to a repeated request. The new secret
 * is dated with the beginning of a second that comes after the old one and after now. Tokens are dated in whole seconds,
 * so this tells those of the old secret from those of the new.
 */
export function replaceSecret(record: KeyRecord, by: AuditContext, at: Instant): KeyChange {
  assertMayHaveSecret(record, at);
  const current = record.versions.find((one) => one.version === record.version);
  const latest = Math.max(at, current?.createdAt ?? at);
  if (latest - at > REPLACED_AHEAD_MAX_MS)
    throw new PantheonError('conflict', { detail: 'The request was repeated too often at once. Wait some seconds.' });
  const createdAt = (Math.floor(latest / SECOND_MS) + 1) * SECOND_MS;
  const after = { version: record.version, createdAt: new Date(createdAt).toISOString() };
  return change(record, keyEvent('key.secret_replaced', record, { before: null, after }, by, at));
}

/** All tokens made from this key so far are dead; the key itself goes on. */
export function revokeTokens(record: KeyRecord, by: AuditContext, at: Instant): KeyChange {
  const after = { tokensNotBefore: new Date(Math.max(record.tokensNotBefore ?? at, at)).toISOString() };
  return change(record, keyEvent('key.tokens_revoked', record, { before: null, after }, by, at));
}

/**
 * Brings back to now what a clock that ran ahead had dated after it. Older versions that are still accepted end. Null:
 * nothing of it lies ahead. For keys that were changed in the wrong time only.
 */
export function correctDates(record: KeyRecord, by: AuditContext, at: Instant): KeyChange | null {
  const right = datesUpTo(record, at);
  const isRight = DATES.every((name) => JSON.stringify(record[name]) === JSON.stringify(right[name]));
  if (isRight) return null;
  const before = { createdAt: new Date(record.createdAt).toISOString() };
  const after = { createdAt: new Date(right.createdAt).toISOString() };
  return change(record, keyEvent('key.dates_corrected', record, { before, after }, by, at));
}

function change(record: KeyRecord, event: KeyEvent): KeyChange {
  return { record: evolve(record, event), expectedRevision: record.revision, events: [event] };
}

function stateChange(record: KeyRecord, state: KeyState['kind']): Attributes<'key.suspended'> {
  return { before: { state: record.state.kind }, after: { state } };
}

type Attributes<Type extends EventTypeOf<'key'>> = Pick<NewEvent<Type>, 'before' | 'after'>;

function keyEvent<Type extends EventTypeOf<'key'>>(
  type: Type,
  { id: subjectId, tenantId }: { readonly id: string; readonly tenantId: string },
  { before, after }: Attributes<Type>,
  by: AuditContext,
  at: Instant,
): EventOf<Type> {
  return newEvent(type, { at, tenantId, subjectId, before, after }, by);
}

function assertNotRevoked(record: KeyRecord): void {
  if (record.state.kind === 'revoked') throw new PantheonError('key_revoked');
}

/**
 * A key that may not act gets no new secret: it would work as soon as what stands in the way is lifted, and whoever lifts
 * it would not know of the secret.
 */
function assertMayHaveSecret(record: KeyRecord, at: Instant): void {
  assertNotRevoked(record);
  if (record.state.kind !== 'active') throw new PantheonError('key_suspended');
  if (record.expiresAt !== null && at >= record.expiresAt) throw new PantheonError('key_expired');
}
