/**
 * What an event of the log is. State changes only by events, so the union below is also the list of everything that can
 * ever happen to access state. How events are ordered, sealed and stored is `events/`.
 */
import type { Instant } from '../foundation/clock.ts';
import type { Json, JsonObject } from '../foundation/encoding.ts';

/** Who did it. All null: the process itself (its first start, a call of the library), or the job that is named. */
export interface Actor {
  readonly keyId: string | null;
  readonly userId: string | null;
  readonly address: string | null;
  readonly userAgent: string | null;
  /** A job in the background, by its name. Missing: it was none. */
  readonly job?: string;
}

export const PROCESS_ACTOR: Actor = { keyId: null, userId: null, address: null, userAgent: null };

export function jobActor(job: string): Actor {
  return { ...PROCESS_ACTOR, job };
}

export const SUBJECT_TYPES = ['key', 'tenant', 'signing_key', 'token', 'id_tag_secret', 'store'] as const;

export type SubjectType = (typeof SUBJECT_TYPES)[number];

/** Every type of event that exists. Names are never reused. */
export type EventType =
  | 'key.created'
  | 'key.updated'
  | 'key.suspended'
  | 'key.resumed'
  | 'key.revoked'
  | 'key.rotated'
  | 'key.version_retired'
  | 'key.secret_replaced'
  | 'key.tokens_revoked'
  | 'key.exposed_in_url'
  | 'key.dates_corrected'
  | 'key.exposed_in_text'
  | 'token.revoked'
  | 'tenant.created'
  | 'tenant.updated'
  | 'tenant.suspended'
  | 'tenant.resumed'
  | 'tenant.deleted'
  | 'signing_key.created'
  | 'signing_key.retired'
  | 'id_tag_secret.added'
  | 'id_tag_secret.retired'
  | 'store.clock_accepted'
  | 'store.expired_revocations_deleted';

/** What each type of event is about. */
export const EVENT_SUBJECTS: Readonly<Record<EventType, SubjectType>> = {
  'key.created': 'key',
  'key.updated': 'key',
  'key.suspended': 'key',
  'key.resumed': 'key',
  'key.revoked': 'key',
  'key.rotated': 'key',
  'key.version_retired': 'key',
  'key.secret_replaced': 'key',
  'key.tokens_revoked': 'key',
  'key.exposed_in_url': 'key',
  'key.dates_corrected': 'key',
  'key.exposed_in_text': 'key',
  'token.revoked': 'token',
  'tenant.created': 'tenant',
  'tenant.updated': 'tenant',
  'tenant.suspended': 'tenant',
  'tenant.resumed': 'tenant',
  'tenant.deleted': 'tenant',
  'signing_key.created': 'signing_key',
  'signing_key.retired': 'signing_key',
  'id_tag_secret.added': 'id_tag_secret',
  'id_tag_secret.retired': 'id_tag_secret',
  'store.clock_accepted': 'store',
  'store.expired_revocations_deleted': 'store',
};

/**
 * Whether an event of this type raises the revision of its subject's row by one. It is what tells whether a row is as old
 * as the log says. A type that takes the row away has to be looked at where this is used.
 */
export const REVISED_ROWS: Readonly<Record<EventType, boolean>> = {
  'key.created': true,
  'key.updated': true,
  'key.suspended': true,
  'key.resumed': true,
  'key.revoked': true,
  'key.rotated': true,
  'key.version_retired': true,
  'key.secret_replaced': true,
  'key.tokens_revoked': true,
  'key.exposed_in_url': false,
  'key.exposed_in_text': false,
  'token.revoked': false,
  'tenant.created': true,
  'tenant.updated': true,
  'tenant.suspended': true,
  'tenant.resumed': true,
  'tenant.deleted': true,
  'signing_key.created': true,
  'signing_key.retired': true,
  'id_tag_secret.added': true,
  'id_tag_secret.retired': true,
  'key.dates_corrected': true,
  'store.clock_accepted': false,
  'store.expired_revocations_deleted': false,
};

/** A fact, before the log gave it its place. `before` and `after` hold the attributes it changed, in wire form. */
export interface AuditEvent {
  readonly id: string;
  readonly at: Instant;
  readonly tenantId: string;
  readonly type: EventType;
  readonly actor: Actor;
  readonly subject: { readonly type: SubjectType; readonly id: string };
  readonly requestId: string | null;
  readonly reason: string | null;
  readonly before: JsonObject | null;
  readonly after: JsonObject | null;
}

/** A fact with its place in the log. `seq` starts at 1, has no gaps and is in commit order (I3). */
export interface LoggedEvent extends AuditEvent {
  readonly seq: number;
  /** Its personal part does not open, or is not the one that belongs to it: those fields are null, or absent, for that. */
  readonly damaged?: true;
}

/** An event that is not what was written: only where it stands is told, and nothing of what it says. */
export interface DamagedEvent extends Pick<LoggedEvent, 'id' | 'seq' | 'at' | 'tenantId' | 'type' | 'subject'> {
  readonly damaged: true;
  readonly actor?: never;
  readonly requestId?: never;
  readonly reason?: never;
  readonly before?: never;
  readonly after?: never;
}

/** Whether it says anything. */
export function isReadable(event: LoggedEvent | DamagedEvent): event is LoggedEvent {
  return event.actor !== undefined;
}

/** Who changes something, from where and why: given by the edge, stored with every event it causes. */
export interface AuditContext {
  readonly actor: Actor;
  readonly requestId: string | null;
  readonly reason: string | null;
}

/**
 * Attributes that may say something about a person or that an owner gave us in confidence. They are sealed beside the
 * event, which holds only a salted hash of them: so they can be erased and the tree stays valid.
 */
export const PERSONAL_ATTRIBUTES: ReadonlySet<string> = new Set([
  ...['userId', 'name', 'description', 'metadata', 'jwt', 'ipAllowlist'],
]);

/** What of an event is sealed beside it. */
export interface PersonalPart {
  readonly actor: {
    readonly userId: string | null;
    readonly address: string | null;
    readonly userAgent: string | null;
  };
  readonly reason: string | null;
  readonly before: JsonObject | null;
  readonly after: JsonObject | null;
}

/** Splits an event into what everyone may check and what is sealed beside it. {@link joinEvent} is its inverse. */
export function splitEvent(event: AuditEvent): { readonly open: JsonObject; readonly personal: PersonalPart } {
  const before = splitAttributes(event.before);
  const after = splitAttributes(event.after);
  return {
    open: {
      id: event.id,
      at: new Date(event.at).toISOString(),
      tenantId: event.tenantId,
      type: event.type,
      actor: openActorOf(event.actor),
      subject: { type: event.subject.type, id: event.subject.id },
      requestId: event.requestId,
      before: before.open,
      after: after.open,
    },
    personal: {
      actor: { userId: event.actor.userId, address: event.actor.address, userAgent: event.actor.userAgent },
      reason: event.reason,
      before: before.personal,
      after: after.personal,
    },
  };
}

const ERASED: PersonalPart = {
  actor: { userId: null, address: null, userAgent: null },
  reason: null,
  before: null,
  after: null,
};

/** Puts an event together again. Without its personal part (erased) those fields are null or absent. */
export function joinEvent(open: OpenEvent, personal: PersonalPart | null, seq: number): LoggedEvent {
  const { actor, reason, before, after } = personal ?? ERASED;
  return {
    id: open.id,
    seq,
    at: Date.parse(open.at),
    tenantId: open.tenantId,
    type: open.type,
    actor: { ...openActorOf(open.actor), ...actor },
    subject: open.subject,
    requestId: open.requestId,
    reason,
    before: joinAttributes(open.before, before),
    after: joinAttributes(open.after, after),
  };
}

/** What of an actor says nothing about a person. */
type OpenActor = Pick<Actor, 'keyId' | 'job'>;

/** Without a member for what is not there: events from before there were jobs are written, and hashed, without it. */
function openActorOf({ keyId, job }: OpenActor): OpenActor & JsonObject {
  return job === undefined ? { keyId } : { keyId, job };
}

/** The open part as it is stored: JSON that we wrote ourselves and whose hash the log holds. */
export interface OpenEvent {
  readonly personalHash: string;
  readonly id: string;
  readonly at: string;
  readonly tenantId: string;
  readonly type: EventType;
  readonly actor: OpenActor;
  readonly subject: { readonly type: SubjectType; readonly id: string };
  readonly requestId: string | null;
  readonly before: JsonObject | null;
  readonly after: JsonObject | null;
}

function splitAttributes(attributes: JsonObject | null): { open: JsonObject | null; personal: JsonObject | null } {
  if (attributes === null) return { open: null, personal: null };
  const open: Record<string, Json> = {};
  const personal: Record<string, Json> = {};
  for (const [name, value] of Object.entries(attributes)) {
    (PERSONAL_ATTRIBUTES.has(name) ? personal : open)[name] = value;
  }
  return { open, personal: Object.keys(personal).length === 0 ? null : personal };
}

function joinAttributes(open: JsonObject | null, personal: JsonObject | null): JsonObject | null {
  return open === null && personal === null ? null : { ...open, ...personal };
}
