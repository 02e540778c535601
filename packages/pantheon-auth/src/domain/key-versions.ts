/** The versions of a key: the state of each version at a given time, and how events change the versions. */
import type { Instant } from '../foundation/clock.ts';
import { invariant } from '../foundation/errors.ts';
import type { KnownEvent } from './event.ts';
import { type KeyRecord, type KeyVersion, VERSIONS_KEPT_MAX } from './key-record.ts';

export type VersionState = 'current' | 'accepted' | 'retired';

type Versioned = Pick<KeyRecord, 'version' | 'versions'>;

/** The state of a version at `now`. */
export function versionState(version: KeyVersion, now: Instant): VersionState {
  if (version.acceptedUntil === null) return 'current';
  return now < version.acceptedUntil ? 'accepted' : 'retired';
}

/** The highest number that was given to a version. Numbers are never given again. */
export function newestVersionNumber({ version, versions }: Versioned): number {
  return versions[0]?.version ?? version;
}

/**
 * Of the versions that are not current, the one with the latest `acceptedUntil`; it may have ended already. Null: there is
 * only the current one.
 */
export function previousVersion({ version, versions }: Versioned): KeyVersion | null {
  let previous: KeyVersion | null = null;
  for (const one of versions)
    if (one.version !== version && (one.acceptedUntil ?? 0) > (previous?.acceptedUntil ?? 0)) previous = one;
  return previous;
}

export function makeVersion(version: number, createdAt: Instant): KeyVersion {
  return { version, createdAt, acceptedUntil: null };
}

export function rotated(record: KeyRecord, event: KnownEvent<'key.rotated'>): Versioned {
  const { version, acceptedUntil, retireOnFirstUse } = event.after ?? {};
  const isNext = version === newestVersionNumber(record) + 1;
  invariant(isNext && typeof acceptedUntil === 'string', 'a rotation makes the next version');
  const until = Date.parse(acceptedUntil);
  // Others that are still accepted end now: only the version before the new one overlaps with it.
  const older = record.versions.map((one) =>
    one.version === record.version
      ? { ...one, acceptedUntil: until, ...(retireOnFirstUse === true && { retiresOnFirstUse: true as const }) }
      : ended(one, event.at),
  );
  return { version, versions: kept([makeVersion(version, event.at), ...older], record.version) };
}

export function rolledBack(record: KeyRecord, event: KnownEvent<'key.rolled_back'>): Versioned {
  const version = event.after?.version;
  const isKnown = typeof version === 'number' && record.versions.some((one) => one.version === version);
  invariant(isKnown, 'a key is rolled back to a version that it has');
  const versions = record.versions.map((one) =>
    one.version === version ? makeVersion(version, one.createdAt) : ended(one, event.at),
  );
  return { version, versions };
}

export function versionRetired(
  { versions }: KeyRecord,
  event: KnownEvent<'key.version_retired'>,
): Pick<KeyRecord, 'versions'> {
  const retired = event.after?.version;
  return { versions: versions.map((one) => (one.version === retired ? ended(one, event.at) : one)) };
}

/**
 * Removes the oldest version when there are more than eight, but never the one that was current until now. After rollbacks
 * that one can be the oldest.
 */
function kept(versions: readonly KeyVersion[], previous: number): readonly KeyVersion[] {
  if (versions.length <= VERSIONS_KEPT_MAX) return versions;
  const oldest = versions.findLast((one) => one.version !== previous);
  return versions.filter((one) => one !== oldest);
}

/** Ends it now, unless it has ended. */
function ended(version: KeyVersion, at: Instant): KeyVersion {
  const { version: number, createdAt, acceptedUntil } = version;
  return { version: number, createdAt, acceptedUntil: Math.min(acceptedUntil ?? at, at) };
}
