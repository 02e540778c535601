import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ExpiryAnnouncement, firstExpiryLook, isExpiring, planExpiryNotice } from './expiry-notices.ts';

const DAY = 86_400_000;
const DISTANCES = [30, 7, 1].map((days) => days * 86_400);
const END = 100 * DAY;
const key = { createdAt: 0, expiresAt: END, state: { kind: 'active' } } as const;

describe('the coming expiry of a key', () => {
  test('is announced once at each distance', () => {
    const announced: number[] = [];
    let last: ExpiryAnnouncement | null = null;
    for (let now: number | null = firstExpiryLook(key, DISTANCES); now !== null; ) {
      const plan: ReturnType<typeof planExpiryNotice> = planExpiryNotice(key, last, DISTANCES, now);
      if (plan.announce !== null) {
        announced.push((END - now) / DAY);
        last = { distanceSeconds: plan.announce, expiresAt: END };
      }
      now = plan.lookAt;
    }
    expect(announced).toEqual([30, 7, 1]);
  });

  test('is announced at the shortest distance that was passed while nothing ran, and not twice', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 99 }), (days) => {
        const now = days * DAY;
        const { announce } = planExpiryNotice(key, null, DISTANCES, now);
        const left = 100 - days;
        const expected = left <= 1 ? 1 : left <= 7 ? 7 : left <= 30 ? 30 : null;
        expect(announce).toBe(expected === null ? null : expected * 86_400);
        if (announce === null) return;
        expect(
          planExpiryNotice(key, { distanceSeconds: announce, expiresAt: END }, DISTANCES, now).announce,
        ).toBeNull();
      }),
    );
  });

  test('is announced anew when it was moved', () => {
    const announced = { distanceSeconds: 86_400, expiresAt: END - 50 * DAY };
    expect(planExpiryNotice(key, announced, DISTANCES, 80 * DAY).announce).toBe(30 * 86_400);
  });

  test('is not announced further ahead than half of the life of the key, nor when it has passed or the key may not act', () => {
    const short = { ...key, expiresAt: 2 * DAY };
    expect(firstExpiryLook(short, DISTANCES)).toBe(DAY);
    expect(firstExpiryLook({ ...key, expiresAt: 3_600_000 }, DISTANCES)).toBeNull();
    expect(firstExpiryLook({ ...key, expiresAt: null }, DISTANCES)).toBeNull();
    expect(planExpiryNotice(key, null, DISTANCES, END)).toEqual({ announce: null, lookAt: null });
    const suspended = { ...key, state: { kind: 'suspended', at: 1, reason: null } } as const;
    expect(planExpiryNotice(suspended, null, DISTANCES, END - 1)).toEqual({ announce: null, lookAt: null });
    expect(planExpiryNotice(key, null, [], END - 1)).toEqual({ announce: null, lookAt: null });
  });

  test('is told to the holder within the longest distance', () => {
    expect(isExpiring(key, DISTANCES, 70 * DAY - 1)).toBe(false);
    expect(isExpiring(key, DISTANCES, 70 * DAY)).toBe(true);
  });
});
