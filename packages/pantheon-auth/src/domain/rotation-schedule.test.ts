import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KeyRecord } from './key.ts';
import {
  firstLookAt,
  overlapEnd,
  planRotation,
  type RotatedKey,
  type RotationFacts,
  rotationHint,
  rotationStatus,
} from './rotation-schedule.ts';

const DAY = 86_400_000;
const MADE = 1_000_000;
const JWK = { kty: 'OKP', crv: 'X25519', x: 'x' };
const NOTHING_KNOWN: RotationFacts = { announced: null, announcedSince: null, isUsed: false, hasNextSecret: false };

type Policy = NonNullable<KeyRecord['rotation']>;
const POLICY: Policy = {
  everySeconds: 30 * 86_400,
  overlapSeconds: 86_400,
  windowSeconds: 4 * 86_400,
  onMissed: 'extend',
  recipientJwk: null,
};
const DUE = MADE + 30 * DAY;

function keyWith(policy: Partial<Policy> | null, more: Partial<RotatedKey> = {}): RotatedKey {
  return {
    rotation: policy && { ...POLICY, ...policy },
    version: 1,
    versions: [{ version: 1, createdAt: MADE, acceptedUntil: null }],
    state: { kind: 'active' },
    notBefore: null,
    expiresAt: null,
    ...more,
  };
}

describe('whether a rotation is due', () => {
  test('is a question of the age of the current version, to the millisecond', () => {
    expect(rotationStatus(keyWith(null), DUE)).toBeNull();
    expect(rotationStatus(keyWith({ everySeconds: null }), DUE)).toBeNull();
    expect(rotationStatus(keyWith({}), DUE - 1)).toEqual({ state: 'scheduled', dueAt: DUE, claimBefore: null });
    expect(rotationStatus(keyWith({}), DUE)).toEqual({ state: 'due', dueAt: DUE, claimBefore: DUE + 4 * DAY });
    expect(rotationStatus(keyWith({}), DUE + 4 * DAY)).toEqual({
      state: 'overdue',
      dueAt: DUE,
      claimBefore: DUE + 12 * DAY,
    });
    expect(rotationStatus(keyWith({ recipientJwk: JWK }), DUE + 9 * DAY)).toMatchObject({
      state: 'due',
      claimBefore: null,
    });
  });

  test('is told to the holder of the current version, and to that of an older one where it must change to', () => {
    const [current] = keyWith({}).versions;
    if (current === undefined) throw new Error('a version');
    expect(rotationHint(keyWith({}), current, DUE - 1)).toBeNull();
    expect(rotationHint(keyWith(null), current, DUE)).toBeNull();
    expect(rotationHint(keyWith({}), current, DUE)).toEqual({ state: 'due', version: 1, before: DUE + 4 * DAY });
    expect(rotationHint(keyWith({ recipientJwk: JWK }), current, DUE)).toBeNull();
    const older = { ...current, acceptedUntil: DUE + 5 };
    expect(rotationHint(keyWith(null, { version: 2 }), older, DUE)).toEqual({
      state: 'superseded',
      version: 2,
      before: DUE + 5,
    });
  });

  test('a previous version ends with the overlap asked for, else with that of the policy, and never after its key', () => {
    expect(overlapEnd(keyWith(null), null, 0)).toBe(DAY);
    expect(overlapEnd(keyWith({ overlapSeconds: 60 }), null, 0)).toBe(60_000);
    expect(overlapEnd(keyWith({ overlapSeconds: 60 }), 5, 0)).toBe(5_000);
    expect(overlapEnd(keyWith({}, { expiresAt: 7 }), null, 0)).toBe(7);
  });
});

describe('what the service does', () => {
  const plan = (key: RotatedKey, facts: Partial<RotationFacts>, now: number) =>
    planRotation(key, { ...NOTHING_KNOWN, ...facts }, now);

  test('nothing before it is due, and nothing for a key that may not act', () => {
    expect(plan(keyWith({}), {}, DUE - 1)).toEqual({ step: null, lookAt: DUE, awaitsUse: false });
    expect(firstLookAt(keyWith({}))).toBe(DUE);
    for (const state of ['suspended', 'revoked'] as const) {
      const key = keyWith({}, { state: { kind: state, at: 1, reason: null } });
      expect(plan(key, {}, DUE)).toMatchObject({ step: null, lookAt: null });
      expect(firstLookAt(key)).toBeNull();
    }
    expect(plan(keyWith({}, { expiresAt: DUE }), {}, DUE)).toMatchObject({ step: null, lookAt: null });
  });

  test('a window is announced when it opens, at its half, and when the next one opens', () => {
    const steps: unknown[] = [];
    let announced: number | null = null;
    for (let now: number | null = DUE; now !== null && now < DUE + 30 * DAY; ) {
      const { step, lookAt } = plan(keyWith({}), { announced }, now);
      if (step?.kind === 'announce') {
        announced = step.announcement.number;
        steps.push([step.announcement.type, (now - DUE) / DAY, ((step.announcement.claimBefore ?? 0) - DUE) / DAY]);
      }
      now = lookAt;
    }
    expect(steps).toEqual([
      ['key.rotation_due', 0, 4],
      ['key.rotation_reminded', 2, 4],
      ['key.rotation_overdue', 4, 12],
      ['key.rotation_reminded', 8, 12],
      ['key.rotation_overdue', 12, 28],
      ['key.rotation_reminded', 20, 28],
      ['key.rotation_overdue', 28, 60],
    ]);
  });

  test('of what was missed while nothing ran, the latest alone is announced, and nothing twice', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3_000 }), fc.option(fc.integer({ min: 0, max: 20 })), (days, announced) => {
        const now = DUE + days * DAY;
        const first = plan(keyWith({}), { announced }, now);
        expect(first.lookAt).toBeGreaterThan(now);
        if (first.step === null) return;
        if (first.step.kind !== 'announce') throw new Error('it is announced');
        const { number, claimBefore } = first.step.announcement;
        expect(number).toBeGreaterThan(announced ?? -1);
        expect(claimBefore).toBeGreaterThan(now);
        expect(plan(keyWith({}), { announced: number }, now).step).toBeNull();
      }),
    );
  });

  test('where the policy says so, a key expires when its holder has been told for a whole window', () => {
    const key = keyWith({ onMissed: 'expire' });
    const late = DUE + 300 * DAY;
    const opened = plan(key, {}, late);
    expect(opened.step).toMatchObject({ announcement: { type: 'key.rotation_due', claimBefore: late + 4 * DAY } });
    expect(opened.lookAt).toBe(late + 2 * DAY);
    const reminded = plan(key, { announced: 0, announcedSince: late }, late + 2 * DAY);
    expect(reminded.step).toMatchObject({
      announcement: { type: 'key.rotation_reminded', claimBefore: late + 4 * DAY },
    });
    expect(plan(key, { announced: 1, announcedSince: late }, late + 4 * DAY - 1)).toMatchObject({
      step: null,
      lookAt: late + 4 * DAY,
    });
    expect(plan(key, { announced: 1, announcedSince: late }, late + 4 * DAY).step).toEqual({ kind: 'expire' });
  });

  test('nothing is due before the key has begun', () => {
    const key = keyWith({ onMissed: 'expire' }, { notBefore: DUE + 30 * DAY });
    expect(plan(key, {}, DUE + 29 * DAY)).toEqual({ step: null, lookAt: DUE + 30 * DAY, awaitsUse: false });
    expect(rotationStatus(key, DUE + 29 * DAY)).toMatchObject({ state: 'scheduled' });
  });

  test('a version that ends with the first use of the next one is waited for also while the next rotation is due', () => {
    const [current] = keyWith({}).versions;
    if (current === undefined) throw new Error('a version');
    const ending = { version: 0, createdAt: 1, acceptedUntil: DUE + 9 * DAY, retiresOnFirstUse: true } as const;
    for (const policy of [{}, { onMissed: 'expire' }, { recipientJwk: JWK }] as const) {
      const key = keyWith(policy, { versions: [current, ending] });
      expect(plan(key, {}, DUE)).toMatchObject({ awaitsUse: true });
      expect(plan(key, { isUsed: true }, DUE).step).toEqual({ kind: 'retire', version: 0 });
    }
  });

  describe('for a recipient', () => {
    const key = keyWith({ recipientJwk: JWK });

    test('it rotates a key that was used, when no older version is accepted any more', () => {
      expect(plan(key, { isUsed: true }, DUE).step).toEqual({ kind: 'rotate' });
      const overlapping = {
        ...key,
        versions: [...key.versions, { version: 0, createdAt: 1, acceptedUntil: DUE + DAY }],
      };
      const held = plan(overlapping, { isUsed: true }, DUE);
      expect(held).toMatchObject({ step: { kind: 'announce' }, lookAt: DUE + DAY, awaitsUse: false });
      expect(plan(overlapping, { isUsed: true, announced: 0 }, DUE + DAY).step).toEqual({ kind: 'rotate' });
    });

    test('it does not rotate a key whose current version nobody has used: its holder may not have it', () => {
      const announced = {
        kind: 'announce',
        announcement: { type: 'key.rotation_overdue', number: 0, claimBefore: null },
      };
      expect(plan(key, {}, DUE)).toMatchObject({ step: announced, awaitsUse: true });
      expect(plan(key, { announced: 0 }, DUE + 300 * DAY)).toMatchObject({ step: null, awaitsUse: true });
    });

    test('the encrypted copy ends with the first use, whatever the state of the key', () => {
      fc.assert(
        fc.property(fc.constantFrom('active', 'suspended'), fc.integer({ min: 0, max: 100 }), (kind, days) => {
          const state = kind === 'active' ? { kind } : { kind, at: 1, reason: null };
          const waiting = { ...key, state };
          const now = MADE + days * DAY;
          expect(plan(waiting, { hasNextSecret: true, isUsed: true }, now).step).toEqual({ kind: 'complete' });
          expect(plan(waiting, { hasNextSecret: true }, now)).toMatchObject({ awaitsUse: true });
        }),
      );
    });
  });
});
