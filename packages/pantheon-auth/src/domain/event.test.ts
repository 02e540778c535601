import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { canonicalJson } from '../foundation/encoding.ts';
import { assertNever } from '../foundation/errors.ts';
import { anyEvent } from '../testing/arbitraries.ts';
import {
  type AuditEvent,
  EVENT_SUBJECTS,
  type EventAbout,
  type EventTypeOf,
  eventAbout,
  jobActor,
  joinEvent,
  newEvent,
  type OpenEvent,
  PROCESS_ACTOR,
  type RecordedEvent,
  splitEvent,
} from './event.ts';
import { EVENT_TYPES, type EventType, type KeyNote, PERSONAL_ATTRIBUTES } from './event-data.ts';
import type { evolveIdTagSecret } from './id-tag-secret.ts';
import type { evolve } from './key.ts';
import type { evolveSigningKey } from './signing-key.ts';
import type { evolveTenant } from './tenant.ts';

const throughJson = <T>(value: unknown): T => JSON.parse(canonicalJson(value as object)) as T;

test.each(Object.entries(EVENT_SUBJECTS))('%s is an event about its subject, a %s', (type, subject) => {
  expect(type).toMatch(new RegExp(`^${subject}\\.[a-z]+(_[a-z]+)*$`));
});

test('an attribute that is personal in one type of event is personal in every type', () => {
  for (const { attributes } of Object.values(EVENT_TYPES)) {
    for (const [name, privacy] of Object.entries(attributes))
      expect([name, privacy]).toEqual([name, PERSONAL_ATTRIBUTES.has(name) ? 'personal' : 'open']);
  }
  const { userId, ipAllowlist } = EVENT_TYPES['key.created'].attributes;
  expect([userId, ipAllowlist, EVENT_TYPES['tenant.updated'].attributes.name]).toEqual(Array(3).fill('personal'));
});

describe('an event that is read from storage', () => {
  test.each(['key.absorbed', 'tenant.suspended', 'toString'])(
    '%s with the subject type of a key has an unknown type, and shows only when, where, of what and why',
    (type) => {
      fc.assert(
        fc.property(anyEvent, (event) => {
          const { at, tenantId, reason, subject } = event;
          const unknown = { type: 'unknown', saidType: type, at, tenantId, reason, subject };
          expect(eventAbout('key', { ...event, type })).toEqual(unknown);
        }),
      );
    },
  );

  test('with the subject type that belongs to its type is read as it was written', () => {
    fc.assert(
      fc.property(anyEvent, (event) => {
        expect(eventAbout(EVENT_SUBJECTS[event.type], event)).toEqual(event);
      }),
    );
  });
});

describe('the personal part of an event', () => {
  test('is joined with the public part after storage to the same event', () => {
    fc.assert(
      fc.property(anyEvent, fc.nat(), (event, seq) => {
        const { open, personal } = splitEvent(event);
        expect(joinEvent(throughJson(open), throughJson(personal), seq)).toEqual({ ...event, seq });
      }),
    );
  });

  test('contains everything that may identify a person', () => {
    fc.assert(
      fc.property(anyEvent, (event) => {
        const { open, personal } = splitEvent(event);
        const { before, after, actor } = throughJson<OpenEvent>(open);
        const names = [before, after].flatMap((attributes) => Object.keys(attributes ?? {}));
        expect(names.filter((name) => PERSONAL_ATTRIBUTES.has(name))).toEqual([]);
        expect(Object.keys(actor)).toEqual(event.actor.job === undefined ? ['keyId'] : ['job', 'keyId']);
        expect(open).not.toHaveProperty('reason');
        expect(personal.reason).toBe(event.reason);
      }),
    );
  });

  test('once erased, leaves key ids, changes and times, and names no person', () => {
    fc.assert(
      fc.property(anyEvent, (event) => {
        const { open } = splitEvent(event);
        const joined = joinEvent(throughJson(open), null, 7);
        const { id, at, tenantId, type, subject, requestId } = event;
        expect(joined).toMatchObject({ id, seq: 7, at, tenantId, type, subject, requestId, reason: null });
        const { keyId, job } = event.actor;
        expect(joined.actor).toEqual(job === undefined ? { ...PROCESS_ACTOR, keyId } : jobActor(job));
        for (const attributes of [joined.before, joined.after]) {
          expect(Object.keys(attributes ?? {}).filter((name) => PERSONAL_ATTRIBUTES.has(name))).toEqual([]);
        }
      }),
    );
  });

  test('one event gives one text to hash, in whatever order its members were set', () => {
    fc.assert(
      fc.property(anyEvent, (event) => {
        const reordered = Object.fromEntries(Object.entries(event).reverse()) as unknown as typeof event;
        expect(canonicalJson(splitEvent(reordered).open)).toBe(canonicalJson(splitEvent(event).open));
      }),
    );
  });

  test('an event from before jobs had names has the same hash and is read as before; one of a job names the job', () => {
    const event: RecordedEvent = {
      id: 'EventEventEventE',
      at: 0,
      tenantId: 'default',
      type: 'key.rotated',
      actor: PROCESS_ACTOR,
      subject: { type: 'key', id: 'KeyKeyKeyKeyKeyK' },
      requestId: null,
      reason: null,
      before: null,
      after: null,
    };
    const rest =
      '"after":null,"at":"1970-01-01T00:00:00.000Z","before":null,"id":"EventEventEventE","requestId":null,"subject":{"id":"KeyKeyKeyKeyKeyK","type":"key"},"tenantId":"default","type":"key.rotated"}';
    const before = `{"actor":{"keyId":null},${rest}`;
    expect(canonicalJson(splitEvent(event).open)).toBe(before);
    expect(joinEvent(JSON.parse(before) as OpenEvent, null, 1).actor).toEqual(PROCESS_ACTOR);
    const { open, personal } = splitEvent({ ...event, actor: jobActor('scheduled-rotation') });
    expect(canonicalJson(open)).toBe(`{"actor":{"job":"scheduled-rotation","keyId":null},${rest}`);
    expect(joinEvent(throughJson(open), personal, 1).actor).toEqual({ ...PROCESS_ACTOR, job: 'scheduled-rotation' });
  });
});

describe('the compiler', () => {
  const BY = { actor: PROCESS_ACTOR, requestId: null, reason: null };
  const where = { at: 0, tenantId: 'system', subjectId: 'kid-1' };
  const retired = newEvent('signing_key.retired', { ...where, before: null, after: null }, BY);

  test('refuses a replay that leaves out a type of event', () => {
    const whole = (event: EventAbout<'signing_key'>): string => {
      switch (event.type) {
        case 'signing_key.created':
        case 'signing_key.activated':
        case 'signing_key.retired':
          return event.type;
        case 'unknown':
          return event.saidType;
        default:
          return assertNever(event);
      }
    };
    const forgetful = (event: EventAbout<'signing_key'>): string => {
      switch (event.type) {
        case 'signing_key.created':
          return event.type;
        case 'unknown':
          return event.saidType;
        default:
          // @ts-expect-error `signing_key.retired` has no case.
          return assertNever(event);
      }
    };
    expect(whole(retired)).toBe('signing_key.retired');
    expect(() => forgetful(retired)).toThrow('Unhandled case');
  });

  test('makes each record handle every type of event about its subject', () => {
    expectTypeOf<Parameters<typeof evolve>[1]>().toEqualTypeOf<EventAbout<'key'>>();
    expectTypeOf<Parameters<typeof evolveTenant>[1]>().toEqualTypeOf<EventAbout<'tenant'>>();
    expectTypeOf<Parameters<typeof evolveSigningKey>[1]>().toEqualTypeOf<EventAbout<'signing_key'>>();
    expectTypeOf<Parameters<typeof evolveIdTagSecret>[1]>().toEqualTypeOf<EventAbout<'id_tag_secret'>>();
    expectTypeOf<EventAbout<'key'>['type']>().toEqualTypeOf<EventTypeOf<'key'> | 'unknown'>();
    expectTypeOf<Extract<EventType, `key.${string}`>>().toEqualTypeOf<EventTypeOf<'key'>>();
  });

  test('checks the data of an event against its type', () => {
    const rotated = { ...where, before: { version: 1 } };
    // @ts-expect-error How long the version before is accepted is missing.
    newEvent('key.rotated', { ...rotated, after: { version: 2 } }, BY);
    // @ts-expect-error Nothing is known before a version is retired.
    newEvent('key.version_retired', { ...rotated, after: { version: 1 } }, BY);
    const nameOf = (event: AuditEvent): string | undefined =>
      // @ts-expect-error Not every event has a name.
      event.after?.name;
    const tenantNameOf = (event: AuditEvent): string | undefined =>
      event.type === 'tenant.created' ? event.after.name : undefined;
    const made = newEvent('tenant.created', { ...where, before: null, after: { name: 'Acme' } }, BY);
    expect([nameOf(made), tenantNameOf(made), tenantNameOf(retired)]).toEqual(['Acme', 'Acme', undefined]);
  });

  test('refuses to read an attribute that the type does not have', () => {
    const event = eventAbout('tenant', { ...retired, type: 'tenant.updated', after: { nmae: 'x' } });
    // @ts-expect-error It is called `name`.
    const read = event.type === 'tenant.updated' ? event.after?.nmae : null;
    expect(read).toBe('x');
  });
});

test('events about a key change its record and its revision, or neither', () => {
  const unrevising = Object.entries(EVENT_TYPES).filter(
    ([, { subject, revisesRow }]) => subject === 'key' && !revisesRow,
  );
  const notes: Record<KeyNote, true> = {
    'key.exposed_in_url': true,
    'key.exposed_in_text': true,
    'key.token_issued': true,
    'key.expiring': true,
    'key.rotation_due': true,
    'key.rotation_reminded': true,
    'key.rotation_overdue': true,
    'key.rotation_completed': true,
  };
  expect(unrevising.map(([type]) => type).toSorted()).toEqual(Object.keys(notes).toSorted());
});
