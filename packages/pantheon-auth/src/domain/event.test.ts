import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../foundation/encoding.ts';
import { anyEvent } from '../testing/arbitraries.ts';
import {
  type AuditEvent,
  EVENT_SUBJECTS,
  jobActor,
  joinEvent,
  type OpenEvent,
  PERSONAL_ATTRIBUTES,
  PROCESS_ACTOR,
  splitEvent,
} from './event.ts';

const throughJson = <T>(value: unknown): T => JSON.parse(canonicalJson(value as object)) as T;

test.each(Object.entries(EVENT_SUBJECTS))('%s is a fact about its subject, a %s', (type, subject) => {
  expect(type).toMatch(new RegExp(`^${subject}\\.[a-z]+(_[a-z]+)*$`));
});

describe('the personal part of an event', () => {
  test('put together again, through storage, an event is what it was', () => {
    fc.assert(
      fc.property(anyEvent, fc.nat(), (event, seq) => {
        const { open, personal } = splitEvent(event);
        expect(joinEvent(throughJson(open), throughJson(personal), seq)).toEqual({ ...event, seq });
      }),
    );
  });

  test('holds everything that may say something about a person', () => {
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

  test('erased, it leaves who, what and when, and names nobody', () => {
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

  test('one event gives one text to hash, however it was put together', () => {
    fc.assert(
      fc.property(anyEvent, (event) => {
        const reordered = Object.fromEntries(Object.entries(event).reverse()) as unknown as typeof event;
        expect(canonicalJson(splitEvent(reordered).open)).toBe(canonicalJson(splitEvent(event).open));
      }),
    );
  });

  test('an event of before jobs had names is hashed as it was, and reads as it did; that of a job names it', () => {
    const event: AuditEvent = {
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
