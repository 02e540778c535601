/**
 * The lane and queue position of a commit. Both are derived from its events, so that no caller can set them wrongly.
 * The queue itself is `storage/write-queue.ts`.
 */
import type { EventType } from '../domain/event.ts';
import type { EventRow } from './ledger.ts';

/**
 * `protective`: changes that end access. They never wait behind `ordinary` ones, and only they may use the reserved
 * disk space.
 */
export type Lane = 'protective' | 'ordinary';

/** The queue position of a write. The queue is round-robin by tenant, and within a tenant by caller. */
export interface QueueKey {
  readonly lane: Lane;
  /** Null: the service itself. */
  readonly tenantId: string | null;
  /** The calling key, or a name for a task of the service. */
  readonly callerId: string;
}

/** The lane of each event type. A new type without a lane does not compile. */
const LANES: Readonly<Record<EventType, Lane>> = {
  'key.created': 'ordinary',
  'key.updated': 'ordinary',
  'key.suspended': 'protective',
  'key.resumed': 'ordinary',
  'key.revoked': 'protective',
  'key.rotated': 'ordinary',
  'key.version_retired': 'protective',
  'key.secret_replaced': 'ordinary',
  'key.tokens_revoked': 'protective',
  'key.exposed_in_url': 'ordinary',
  'key.exposed_in_text': 'ordinary',
  'key.token_issued': 'ordinary',
  'token.revoked': 'protective',
  'tenant.created': 'ordinary',
  'tenant.updated': 'ordinary',
  'tenant.suspended': 'protective',
  'tenant.resumed': 'ordinary',
  'tenant.deleted': 'protective',
  // Retiring the last signing key of an algorithm requires a successor. Only operators create signing keys.
  'signing_key.created': 'protective',
  'signing_key.activated': 'ordinary',
  'signing_key.retired': 'protective',
  'id_tag_secret.added': 'protective',
  'id_tag_secret.retired': 'protective',
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
  const lane = events.every(({ type }) => LANES[type] === 'protective') ? 'protective' : 'ordinary';
  const [{ tenantId, type, subjectId, actorKeyId }] = events;
  const isSelfRotation = type === 'key.rotated' && actorKeyId === subjectId;
  return { lane, tenantId, callerId: isSelfRotation ? SELF_ROTATION : (actorKeyId ?? PROCESS) };
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
  return { lane: 'protective', tenantId, callerId: 'sealing' };
}
