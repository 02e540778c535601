/**
 * What an event of the log is: as it is made, as it is read back, and how its personal part is split off. What each type
 * says is `event-data.ts`. State changes only by events, so their union is also the list of everything that can ever happen
 * to access state. How events are ordered, sealed and stored is `events/`.
 */
import type { Instant } from '../foundation/clock.ts';
import type { Json, JsonObject } from '../foundation/encoding.ts';
import { newId } from '../foundation/ids.ts';
import {
  EVENT_TYPES,
  type EventData,
  type EventType,
  type EventTypeOf,
  isEventTypeOf,
  PERSONAL_ATTRIBUTES,
  type ReadAttributes,
  type SubjectType,
} from './event-data.ts';

export { EVENT_SUBJECTS, type EventType, type EventTypeOf, SUBJECT_TYPES, type SubjectType } from './event-data.ts';

/** Who caused an event. All null: the process itself (its first start, a call of the library), or the named job. */
export interface Actor {
  readonly keyId: string | null;
  readonly userId: string | null;
  readonly address: string | null;
  readonly userAgent: string | null;
  /** The name of the background job; absent: no job. */
  readonly job?: string;
}

export const PROCESS_ACTOR: Actor = { keyId: null, userId: null, address: null, userAgent: null };

export function jobActor(job: string): Actor {
  return { ...PROCESS_ACTOR, job };
}

/** Who makes a change, from where and why. Stored with every event of the change. */
export interface AuditContext {
  readonly actor: Actor;
  readonly requestId: string | null;
  readonly reason: string | null;
}

/**
 * A fact as it is written, before the log gave it its place. `before` and `after` hold the attributes it changed, in wire
 * form. Made by {@link newEvent}.
 */
export interface EventOf<Type extends EventType> {
  readonly id: string;
  readonly at: Instant;
  readonly tenantId: string;
  readonly type: Type;
  readonly actor: Actor;
  readonly subject: { readonly type: EventData[Type]['subject']; readonly id: string };
  readonly requestId: string | null;
  readonly reason: string | null;
  readonly before: EventData[Type]['before'];
  readonly after: EventData[Type]['after'];
}

/** Any of them, told apart by its `type`. */
export type AuditEvent = { [Type in EventType]: EventOf<Type> }[EventType];

/** Any that is about such a subject. */
export type AuditEventAbout<Subject extends SubjectType> = {
  [Type in EventTypeOf<Subject>]: EventOf<Type>;
}[EventTypeOf<Subject>];

/** What a new event says beside its type. */
export interface NewEvent<Type extends EventType> {
  readonly at: Instant;
  readonly tenantId: string;
  readonly subjectId: string;
  readonly before: EventData[Type]['before'];
  readonly after: EventData[Type]['after'];
}

/** The one way to make an event, with an id of its own. */
export function newEvent<Type extends EventType>(
  type: Type,
  { at, tenantId, subjectId, before, after }: NewEvent<Type>,
  { actor, requestId, reason }: AuditContext,
): EventOf<Type> {
  const subject = { type: EVENT_TYPES[type].subject, id: subjectId };
  return { id: newId(), at, tenantId, type, actor, subject, requestId, reason, before, after };
}

/**
 * An event as it is read back and shown. Its type may be one that only a later version knows, and what it says is unknown
 * until {@link eventAbout} has looked at it.
 */
export interface RecordedEvent extends Omit<EventOf<EventType>, 'type' | 'subject' | 'before' | 'after'> {
  readonly type: string;
  readonly subject: { readonly type: string; readonly id: string };
  readonly before: JsonObject | null;
  readonly after: JsonObject | null;
}

/** What replaying looks at of every event, whatever its type. */
type Replayed = Pick<RecordedEvent, 'at' | 'tenantId' | 'reason'> & { readonly subject: { readonly id: string } };

/** An event of a type that this version knows. What it says may have been erased, or written by an earlier version. */
export interface KnownEvent<Type extends EventType> extends Replayed {
  readonly type: Type;
  readonly before: ReadAttributes<EventData[Type]['before']>;
  readonly after: ReadAttributes<EventData[Type]['after']>;
}

/** An event of a type that is none of that subject, as far as this version knows. */
export interface UnknownEvent extends Replayed {
  readonly type: 'unknown';
  readonly saidType: string;
}

/** What may be replayed into the record of such a subject. */
export type EventAbout<Subject extends SubjectType> =
  | { [Type in EventTypeOf<Subject>]: KnownEvent<Type> }[EventTypeOf<Subject>]
  | UnknownEvent;

/** An event that was read back, for replaying it into the record of such a subject. */
export function eventAbout<Subject extends SubjectType>(subject: Subject, event: RecordedEvent): EventAbout<Subject> {
  const { type: saidType } = event;
  if (!isEventTypeOf(subject, saidType))
    return {
      at: event.at,
      tenantId: event.tenantId,
      reason: event.reason,
      subject: event.subject,
      type: 'unknown',
      saidType,
    };
  // Its type was just looked at, and its attributes are any JSON or none: the type of the answer claims no more.
  return event as unknown as EventAbout<Subject>;
}

/** An event in the log. `seq` starts at 1, has no gaps and follows the order of commits (I3). */
export interface LoggedEvent extends RecordedEvent {
  readonly seq: number;
  /** The personal part is damaged, so its fields are null or absent. */
  readonly damaged?: true;
}

/** An event that is not what was written: only its position and type are known. */
export interface DamagedEvent extends Pick<LoggedEvent, 'id' | 'seq' | 'at' | 'tenantId' | 'type' | 'subject'> {
  readonly damaged: true;
  readonly actor?: never;
  readonly requestId?: never;
  readonly reason?: never;
  readonly before?: never;
  readonly after?: never;
}

/** Whether the content of the event is known. */
export function isReadable(event: LoggedEvent | DamagedEvent): event is LoggedEvent {
  return event.actor !== undefined;
}

/** The personal part of an event, which is sealed. */
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

/** Splits an event into the open part and the personal part. {@link joinEvent} is its inverse. */
export function splitEvent(event: RecordedEvent): { readonly open: JsonObject; readonly personal: PersonalPart } {
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

/** Joins both parts again. Without the personal part (erased) its fields are null or absent. */
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

/** The part of an actor that is not personal. */
type OpenActor = Pick<Actor, 'keyId' | 'job'>;

/** Without a member for an absent job, because older events are written and hashed without it. */
function openActorOf({ keyId, job }: OpenActor): OpenActor & JsonObject {
  return job === undefined ? { keyId } : { keyId, job };
}

/** The open part as it is stored. */
export interface OpenEvent {
  readonly personalHash: string;
  readonly id: string;
  readonly at: string;
  readonly tenantId: string;
  readonly type: string;
  readonly actor: OpenActor;
  readonly subject: { readonly type: string; readonly id: string };
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
