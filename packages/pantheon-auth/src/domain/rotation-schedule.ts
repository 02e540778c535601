/**
 * Decides when a rotation of a key is due, and what the service does then. Pure. `api-keys/key-schedule-job.ts` carries it
 * out.
 *
 * Without a recipient only the holder can receive the next secret. So the service announces that the rotation is due, and
 * the holder has a window to claim the next version. When the window has passed, another one of twice the length begins, or
 * the key expires, as its policy says. With a recipient the service rotates the key itself.
 */
import { earlier, type Instant, MINUTE_MS, SECOND_MS } from '../foundation/clock.ts';
import type { KeyRecord, KeyVersion } from './key.ts';
import { previousVersion } from './key-versions.ts';

/**
 * `scheduled`: not due yet. `due`: the first window is open, or the service rotates the key. `overdue`: a window has passed
 * in which the holder did not claim the next version.
 */
export type RotationState = 'scheduled' | 'due' | 'overdue';

export interface RotationStatus {
  readonly state: RotationState;
  readonly dueAt: Instant;
  /**
   * The end of the current window; for `expire` also after it has passed. Null: not due yet, or the service rotates the key.
   * For `expire` it is calculated from the due time; the key expires later if the announcement was late.
   */
  readonly claimBefore: Instant | null;
}

/** The members of a record that decide. */
export type RotatedKey = Pick<KeyRecord, 'rotation' | 'version' | 'versions' | 'state' | 'notBefore' | 'expiresAt'>;

/** The rotation of a key at `now`; null: none is ever due. */
export function rotationStatus(key: RotatedKey, now: Instant): RotationStatus | null {
  const { rotation } = key;
  const dueAt = dueAtOf(key);
  if (rotation === null || dueAt === null) return null;
  if (now < dueAt) return { state: 'scheduled', dueAt, claimBefore: null };
  if (rotation.recipientJwk !== null) return { state: 'due', dueAt, claimBefore: null };
  if (rotation.onMissed === 'expire') {
    const endsAt = dueAt + windowMsOf(key);
    return { state: now < endsAt ? 'due' : 'overdue', dueAt, claimBefore: endsAt };
  }
  const { nth, endsAt } = windowAt(key, dueAt, now);
  return { state: nth === 0 ? 'due' : 'overdue', dueAt, claimBefore: endsAt };
}

/** What the holder reads in a header of every answer while it has something to do. */
export interface RotationHint {
  /** `superseded`: the version in use is not the current one. */
  readonly state: 'due' | 'overdue' | 'superseded';
  /** The current version. */
  readonly version: number;
  /** The end of the window, or of the overlap. */
  readonly before: Instant;
}

/** The hint for a holder of the version `used`; null: it has nothing to do. */
export function rotationHint(key: RotatedKey, used: KeyVersion, now: Instant): RotationHint | null {
  const { version } = key;
  if (used.acceptedUntil !== null) return { state: 'superseded', version, before: used.acceptedUntil };
  if (key.rotation === null) return null;
  const status = rotationStatus(key, now);
  if (status === null || status.claimBefore === null || status.state === 'scheduled') return null;
  return { state: status.state, version, before: status.claimBefore };
}

/**
 * What the service does about a key. `announce`: writes an event. `rotate`: only with a recipient. `expire`: the window has
 * passed, and the policy has `onMissed: expire`. `complete`: the next secret was used, so its encrypted copy is deleted.
 * `retire`: the current version was used, so the one before it is retired, as the rotation asked (`retireOnFirstUse`).
 */
export type RotationStep =
  | { readonly kind: 'announce'; readonly announcement: Announcement }
  | { readonly kind: 'rotate' }
  | { readonly kind: 'expire' }
  | { readonly kind: 'complete' }
  | { readonly kind: 'retire'; readonly version: number };

/** What an event announces. `announced` in the schedule is the number of the last announcement about a version. */
export interface Announcement {
  readonly type: 'key.rotation_due' | 'key.rotation_reminded' | 'key.rotation_overdue';
  /** Numbers the announcements about a version, so that each is made once. */
  readonly number: number;
  readonly claimBefore: Instant | null;
}

/** What decides besides the record. */
export interface RotationFacts {
  /** The number of the last announcement about the current version; null: there was none. */
  readonly announced: number | null;
  /** When the first of them was made; null: there was none. */
  readonly announcedSince: Instant | null;
  /** Whether the current version was ever used. */
  readonly isUsed: boolean;
  /** Whether an encrypted next secret of the current version is stored for the holder. */
  readonly hasNextSecret: boolean;
}

export interface RotationPlan {
  /** What is due now; null: nothing. */
  readonly step: RotationStep | null;
  /** When to look at the key again once the step is done; null: only after a change of the key. */
  readonly lookAt: Instant | null;
  /** Whether to look again when the current version is used for the first time. */
  readonly awaitsUse: boolean;
}

/** How often a key is looked at whose current version is unused. */
const USE_CHECKED_EVERY_MS: number = 60 * MINUTE_MS;

const NOTHING: RotationPlan = { step: null, lookAt: null, awaitsUse: false };

/** Decides what is due for a key. Once a step was made, the plan that is made from the new state no longer contains it. */
export function planRotation(key: RotatedKey, facts: RotationFacts, now: Instant): RotationPlan {
  if (key.state.kind === 'revoked') return NOTHING;
  if (facts.hasNextSecret && facts.isUsed) return { step: { kind: 'complete' }, lookAt: now, awaitsUse: false };
  const ending = retiresWhenNextIsUsed(key);
  const isEnding = ending !== null && ending.acceptedUntil !== null && now < ending.acceptedUntil;
  if (isEnding && facts.isUsed)
    return { step: { kind: 'retire', version: ending.version }, lookAt: now, awaitsUse: false };
  const awaitsUse = facts.hasNextSecret || isEnding;
  const dueAt = dueAtOf(key);
  // While the key is suspended or expired no rotation is planned. Resuming it or changing its expiry writes a new schedule.
  const mayAct = key.state.kind === 'active' && (key.expiresAt === null || now < key.expiresAt);
  if (key.rotation === null || dueAt === null || !mayAct) return { ...NOTHING, awaitsUse };
  if (now < dueAt) return { step: null, lookAt: dueAt, awaitsUse };
  const plan = key.rotation.recipientJwk === null ? planClaim(key, dueAt, facts, now) : planByService(key, facts, now);
  return { ...plan, awaitsUse: awaitsUse || plan.awaitsUse };
}

/** The overlap of policies without `overlap`, and of keys without a policy. */
export const OVERLAP_SECONDS_DEFAULT: number = 86_400;

/**
 * When the previous version ends after a rotation at `now`: after the overlap of the call, otherwise that of the policy,
 * otherwise a day; never later than the key itself.
 */
export function overlapEnd(
  { rotation, expiresAt }: Pick<KeyRecord, 'rotation' | 'expiresAt'>,
  askedSeconds: number | null,
  now: Instant,
): Instant {
  const endsAt = now + (askedSeconds ?? rotation?.overlapSeconds ?? OVERLAP_SECONDS_DEFAULT) * SECOND_MS;
  return earlier(endsAt, expiresAt);
}

/**
 * Whether the version `used` has ended and its holder may still fetch the next secret: it is the version before the
 * current one, of a key that the service rotates.
 */
export function mayFetchNextSecret(
  key: Pick<KeyRecord, 'rotation' | 'version' | 'versions'>,
  used: KeyVersion,
  now: Instant,
): boolean {
  const isEnded = used.acceptedUntil !== null && now >= used.acceptedUntil;
  return isEnded && key.rotation?.recipientJwk != null && previousVersion(key)?.version === used.version;
}

/** The version that is retired when the current one is used for the first time; null: there is none. */
export function retiresWhenNextIsUsed({ versions }: Pick<KeyRecord, 'versions'>): KeyVersion | null {
  return versions.find((version) => version.retiresOnFirstUse === true) ?? null;
}

/** When to look at a key after a change of it; null: never. */
export function firstLookAt(key: RotatedKey): Instant | null {
  return key.state.kind === 'active' ? dueAtOf(key) : null;
}

function planClaim(key: RotatedKey, dueAt: Instant, facts: RotationFacts, now: Instant): RotationPlan {
  if (key.rotation?.onMissed === 'expire') return planExpiry(key, facts, now);
  const { announced } = facts;
  const { nth, startsAt, endsAt } = windowAt(key, dueAt, now);
  const halfAt = startsAt + Math.floor((endsAt - startsAt) / 2);
  const isHalf = now >= halfAt;
  const number = 2 * nth + Number(isHalf);
  const lookAt = isHalf ? endsAt : halfAt;
  // If the job did not run for a while, only the latest missed announcement is made.
  if (announced !== null && announced >= number) return { step: null, lookAt, awaitsUse: false };
  const opening = nth === 0 ? 'key.rotation_due' : 'key.rotation_overdue';
  const type = isHalf && announced === number - 1 ? 'key.rotation_reminded' : opening;
  return { step: { kind: 'announce', announcement: { type, number, claimBefore: endsAt } }, lookAt, awaitsUse: false };
}

/**
 * A key expires only after a whole window that was announced. The window begins with the announcement, also if that is
 * late, and begins again when the key was suspended or its policy was changed in the meantime.
 */
function planExpiry(key: RotatedKey, { announced, announcedSince }: RotationFacts, now: Instant): RotationPlan {
  const windowMs = windowMsOf(key);
  const opensAt = announced === null ? now : (announcedSince ?? now);
  const [halfAt, endsAt] = [opensAt + Math.floor(windowMs / 2), opensAt + windowMs];
  const announce = (type: Announcement['type'], number: number, lookAt: Instant): RotationPlan => {
    const announcement = { type, number, claimBefore: endsAt };
    return { step: { kind: 'announce', announcement }, lookAt, awaitsUse: false };
  };
  if (announced === null) return announce('key.rotation_due', 0, halfAt);
  if (now >= endsAt) return { step: { kind: 'expire' }, lookAt: now, awaitsUse: false };
  if (now >= halfAt && announced === 0) return announce('key.rotation_reminded', 1, endsAt);
  return { step: null, lookAt: now < halfAt ? halfAt : endsAt, awaitsUse: false };
}

/**
 * The service does not rotate while an older version is still accepted, because the rotation would end that version, nor
 * while the current version is unused, because its holder may not have it. In both cases one `key.rotation_overdue` is
 * announced.
 */
function planByService(key: RotatedKey, facts: RotationFacts, now: Instant): RotationPlan {
  const overlapEndsAt = Math.max(0, ...key.versions.map((version) => version.acceptedUntil ?? 0));
  if (facts.isUsed && overlapEndsAt <= now) return { step: { kind: 'rotate' }, lookAt: now, awaitsUse: false };
  const awaitsUse = !facts.isUsed;
  // Look again after an hour too: a use sets `look_at` only once this plan is stored, which says that it is awaited. One that
  // is stored between reading the usage and storing the plan does not.
  const lookAt = overlapEndsAt > now ? overlapEndsAt : now + USE_CHECKED_EVERY_MS;
  if (facts.announced !== null) return { step: null, lookAt, awaitsUse };
  const announcement = { type: 'key.rotation_overdue', number: 0, claimBefore: null } as const;
  return { step: { kind: 'announce', announcement }, lookAt, awaitsUse };
}

/** When the newest version is as old as `every`, but not before `notBefore`. Null: a rotation is never due. */
function dueAtOf({ rotation, versions, notBefore }: RotatedKey): Instant | null {
  if (rotation === null || rotation.everySeconds === null || versions.length === 0) return null;
  // The age counts from the newest version, also if that version was rolled back, so that the next rotation is not due at
  // once.
  const rotatedAt = Math.max(...versions.map((version) => version.createdAt));
  // Before `notBefore` the holder cannot claim a version.
  return Math.max(rotatedAt + rotation.everySeconds * SECOND_MS, notBefore ?? 0);
}

/**
 * The window that is open at `now`. Each window is twice as long as the one before, so that a key that nobody rotates
 * causes fewer and fewer announcements.
 */
function windowAt(
  key: Pick<KeyRecord, 'rotation'>,
  dueAt: Instant,
  now: Instant,
): { readonly nth: number; readonly startsAt: Instant; readonly endsAt: Instant } {
  let lengthMs = windowMsOf(key);
  let startsAt = dueAt;
  let nth = 0;
  while (now >= startsAt + lengthMs) {
    startsAt += lengthMs;
    lengthMs *= 2;
    nth += 1;
  }
  return { nth, startsAt, endsAt: startsAt + lengthMs };
}

function windowMsOf({ rotation }: Pick<KeyRecord, 'rotation'>): number {
  return Math.max(1, rotation?.windowSeconds ?? 0) * SECOND_MS;
}
