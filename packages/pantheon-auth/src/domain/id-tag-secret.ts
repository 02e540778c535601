/** The record of a secret that tags ids, and how events change it. */
import type { Instant } from '../foundation/clock.ts';
import { assertNever, invariant } from '../foundation/errors.ts';
import type { EventAbout } from './event.ts';

export interface IdTagSecretRecord {
  /** 1, 2, 3… in the order in which they were added. */
  readonly number: number;
  readonly createdAt: Instant;
  /** From then on ids that it tagged are doubtful, like ids without a tag. */
  readonly retiredAt: Instant | null;
  readonly revision: number;
}

/** Applies an event to a tag secret. */
export function evolveIdTagSecret(
  record: IdTagSecretRecord | null,
  event: EventAbout<'id_tag_secret'>,
): IdTagSecretRecord {
  switch (event.type) {
    case 'id_tag_secret.added':
      invariant(record === null, 'a tag secret is added once');
      return { number: Number(event.subject.id), createdAt: event.at, retiredAt: null, revision: 1 };
    case 'id_tag_secret.retired':
      invariant(record !== null, 'a tag secret is added, then retired');
      return { ...record, retiredAt: record.retiredAt ?? event.at, revision: record.revision + 1 };
    case 'unknown':
      throw new Error(`Not an event of a tag secret: ${event.saidType}`);
    default:
      return assertNever(event);
  }
}
