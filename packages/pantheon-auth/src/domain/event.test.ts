import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../foundation/encoding.ts';
import { anyEvent } from '../testing/arbitraries.ts';
import { EVENT_SUBJECTS, joinEvent, type OpenEvent, PERSONAL_ATTRIBUTES, PROCESS_ACTOR, splitEvent } from './event.ts';

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
        expect(Object.keys(actor)).toEqual(['keyId']);
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
        expect(joined.actor).toEqual({ ...PROCESS_ACTOR, keyId: event.actor.keyId });
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
});
