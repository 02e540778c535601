/**
 * Where a commit waits to be written: in which lane, and with whom it shares its turns. Both are read off its events, so
 * no caller can forget to say it, or say it wrongly. The queue itself is `storage/write-queue.ts`.
 */
import type { EventType } from '../domain/event.ts';
import type { EventRow } from './ledger.ts';

/**
 * `protective`: what ends access that somebody should no longer have. It never waits behind what is `ordinary`, and it
 * alone may use the room on disk that is kept in reserve.
 */
export type Lane = 'protective' | 'ordinary';

/** Where in the queue of writes something waits. Turns go round the tenants, and within each tenant round its callers. */
export interface QueueKey {
  readonly lane: Lane;
  /** Null: the service itself. */
  readonly tenantId: string | null;
  /** The key that asks for it, or what the service does. */
  readonly callerId: string;
}

/** A new type of event has to say it here, or this does not compile. */
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
  'token.revoked': 'protective',
  'tenant.created': 'ordinary',
  'tenant.updated': 'ordinary',
  'tenant.suspended': 'protective',
  'tenant.resumed': 'ordinary',
  'tenant.deleted': 'protective',
  // The last one of each is retired only once it has a successor. Only the operator makes one.
  'signing_key.created': 'protective',
  'signing_key.retired': 'protective',
  'id_tag_secret.added': 'protective',
  'id_tag_secret.retired': 'protective',
  'key.dates_corrected': 'ordinary',
  'store.clock_accepted': 'ordinary',
  'store.expired_revocations_deleted': 'ordinary',
};

/** Stands for all keys of a tenant that rotate themselves: together they are one caller beside its administrators. */
const SELF_ROTATION = 'self-rotation';
/** Library code that acts without a key. */
const PROCESS = 'process';

/** Where a commit waits. One that also does something ordinary is ordinary. */
export function queueKeyOf(events: readonly [EventRow, ...EventRow[]]): QueueKey {
  const lane = events.every(({ type }) => LANES[type] === 'protective') ? 'protective' : 'ordinary';
  const [{ tenantId, type, subjectId, actorKeyId }] = events;
  const isSelfRotation = type === 'key.rotated' && actorKeyId === subjectId;
  return { lane, tenantId, callerId: isSelfRotation ? SELF_ROTATION : (actorKeyId ?? PROCESS) };
}

/** Where what the service writes for itself waits: usage, leases, answers. Each `callerId` has its own turns. */
export function operational(callerId: string): QueueKey {
  return { lane: 'ordinary', tenantId: null, callerId };
}

/**
 * Where a data key waits: an event is sealed before it is written, so whatever keeps a data key waiting would keep a
 * revocation waiting. It is written once in thousands of seals.
 */
export function sealing(tenantId: string | null): QueueKey {
  return { lane: 'protective', tenantId, callerId: 'sealing' };
}
