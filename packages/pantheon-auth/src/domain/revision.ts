/** The revision of a row, which each change raises. It is damaged if it cannot be raised exactly. */

/** A revision as it is stored: a bigint if a number cannot hold it exactly. */
export type StoredRevision = number | bigint;

export function canBeRaised(revision: StoredRevision): revision is number {
  return typeof revision === 'number' && Number.isSafeInteger(revision + 1);
}
