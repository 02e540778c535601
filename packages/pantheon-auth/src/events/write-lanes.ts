/**
 * The lane and queue position of a commit. Both are derived from its events, so that no caller can set them wrongly.
 * The queue itself is `storage/write-queue.ts`.
 */
import type { EventType } from '../domain/event.ts';
import { SYSTEM_TENANT } from '../domain/tenant.ts';
import type { EventRow } from './ledger.ts';

/**
 * `protective`: changes that end access. They never wait behind `ordinary` ones, and only they may use the reserved
 * disk space.
 */
export type Lane = 'protective' | 'ordinary';

/**
 * What a commit does. All but `ordinary` are protective. Of the disk reserve, commits that restrict a key or token may use
 * a part, commits that end a key or version a larger part, and commits of the operator all.
 */
export type Purpose = 'ordinary' | 'restricts' | 'ends' | 'operates';

/** The queue position of a write. The queue is round-robin by tenant, and within a tenant by caller. */
export interface QueueKey {
  readonly lane: Lane;
  /** Null: the service itself. */
  readonly tenantId: string | null;
  /** The calling key, or a name for a task of the service. */
  readonly callerId: string;
  /** Of a protective one. Default: `restricts`. */
  readonly purpose?: Purpose;
}

/** The purpose of each event type. A new type without one does not compile. */
const PURPOSES: Readonly<Record<EventType, Purpose>> = {
  'key.created': 'ordinary',
  'key.updated': 'ordinary',
  'key.suspended': 'restricts',
  'key.resumed': 'ordinary',
  'key.revoked': 'ends',
  'key.rotated': 'ordinary',
  'key.rolled_back': 'ordinary',
  'key.version_retired': 'ends',
  'key.secret_replaced': 'ordinary',
  'key.tokens_revoked': 'restricts',
  'key.exposed_in_url': 'ordinary',
  'key.exposed_in_text': 'ordinary',
  'key.token_issued': 'ordinary',
  'key.expiring': 'ordinary',
  'key.rotation_due': 'ordinary',
  'key.rotation_reminded': 'ordinary',
  'key.rotation_overdue': 'ordinary',
  'key.rotation_completed': 'ordinary',
  'token.revoked': 'restricts',
  'tenant.created': 'ordinary',
  'tenant.updated': 'ordinary',
  'tenant.suspended': 'operates',
  'tenant.resumed': 'ordinary',
  'tenant.deleted': 'operates',
  // A retired signing key is replaced in the same commit. Only operators and the service itself change signing keys.
  'signing_key.created': 'operates',
  'signing_key.activated': 'operates',
  'signing_key.retired': 'operates',
  'id_tag_secret.added': 'operates',
  'id_tag_secret.retired': 'operates',
  'key.dates_corrected': 'ordinary',
  'store.clock_accepted': 'ordinary',
  'store.expired_revocations_deleted': 'ordinary',
};

/** One queue position for all keys of a tenant that rotate themselves, so that together they count as one caller. */
const SELF_ROTATION = 'self-rotation';
/** Library code without a calling key. */
const PROCESS = 'process';

/** The queue position of a commit. It is protective only if all its events are. */
export function queueKeyOf(events: readonly [EventRow, ...EventRow[]]): QueueKey {
  const purpose = purposeOf(events);
  const lane = purpose === 'ordinary' ? 'ordinary' : 'protective';
  const [{ tenantId, type, subjectId, actorKeyId }] = events;
  const isSelfRotation = type === 'key.rotated' && actorKeyId === subjectId;
  return { lane, tenantId, callerId: isSelfRotation ? SELF_ROTATION : (actorKeyId ?? PROCESS), purpose };
}

/** The least urgent of what its events are for. What ends access in the system tenant is the operator's. */
function purposeOf(events: readonly EventRow[]): Purpose {
  const all = new Set(
    events.map(({ type, tenantId }) => {
      const purpose = PURPOSES[type];
      return purpose !== 'ordinary' && tenantId === SYSTEM_TENANT ? 'operates' : purpose;
    }),
  );
  return (['ordinary', 'restricts', 'ends'] as const).find((purpose) => all.has(purpose)) ?? 'operates';
}

/**
 * The queue position of writes of the service itself: usage, leases, idempotency records. Each `callerId` has its own.
 */
export function operational(callerId: string): QueueKey {
  return { lane: 'ordinary', tenantId: null, callerId };
}

/**
 * The queue position of data keys. Events are sealed before they are written, so a waiting data key would delay a
 * revocation. One is written once in thousands of seals.
 */
export function sealing(tenantId: string | null): QueueKey {
  return { lane: 'protective', tenantId, callerId: 'sealing', purpose: 'operates' };
}
