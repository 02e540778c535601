import { describe, expect, test } from 'vitest';
import type { EventFeed } from '../events/event-feed.ts';
import { type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { TestClock } from '../testing/test-clock.ts';
import { ConfirmedFacts, type Judgement, STALENESS_MAX_MS_DEFAULT } from './confirmed-facts.ts';
import type { Finding, KnownKey, VerificationCache } from './verification-cache.ts';

const YES: Judgement<string> = { yes: true, proved: 'holder' };
const no = (code: 'revoked' | 'expired' | 'unknown'): Judgement<string> => ({
  yes: false,
  denial: { code },
  proved: null,
});

/** Facts that are told apart by name. The judge of these tests says what the name says. */
const facts = (name: string): KnownKey => ({ record: { name } }) as unknown as KnownKey;
const judge = (found: KnownKey | null): Judgement<string> => {
  const name = found?.record.name ?? 'unknown';
  return name === 'good' ? YES : no(name as 'revoked');
};

interface Setting {
  readonly remembered?: KnownKey | null;
  /** What each read of the store finds; `takesMs` long. */
  readonly stored?: (KnownKey | null)[];
  readonly takesMs?: number;
  /** What a confirmation does: by default it confirms and changes nothing. */
  readonly onConfirm?: (world: { remembered: KnownKey | null | undefined }) => void;
  readonly confirmFails?: boolean;
}

function world(setting: Setting) {
  const clock = new TestClock();
  let confirmedAt: Moment = momentOf(clock);
  const memory: { remembered: KnownKey | null | undefined } = { remembered: setting.remembered };
  let confirmations = 0;
  let reads = 0;
  const feed = {
    get confirmedAt() {
      return confirmedAt;
    },
    refresh: () => null,
    confirm: async (since: number) => {
      if (confirmedAt.monotonicMs >= since) return;
      confirmations += 1;
      if (setting.confirmFails === true) throw new PantheonError('store_unavailable');
      confirmedAt = momentOf(clock);
      setting.onConfirm?.(memory);
    },
  } as unknown as EventFeed;
  const cache = {
    remembered: () => memory.remembered,
    read: async (): Promise<Finding> => {
      const readAt = momentOf(clock);
      const found = setting.stored?.[Math.min(reads, setting.stored.length - 1)] ?? null;
      reads += 1;
      clock.advance(setting.takesMs ?? 0);
      return { facts: found, readAt };
    },
  } as unknown as VerificationCache;
  const confirmed = new ConfirmedFacts({ cache, feed, clock, stalenessMaxMs: STALENESS_MAX_MS_DEFAULT });
  const ask = async () => await confirmed.judge('id', momentOf(clock), judge);
  return { clock, confirmed, ask, memory, count: () => ({ confirmations, reads }) };
}

describe('a yes has an age (I4)', () => {
  test('young facts answer at once, without a promise, a read or a confirmation', () => {
    const { clock, confirmed, count } = world({ remembered: facts('good') });
    clock.advance(STALENESS_MAX_MS_DEFAULT);
    expect(confirmed.judge('id', momentOf(clock), judge)).toMatchObject({ yes: true, proved: 'holder' });
    expect(count()).toEqual({ confirmations: 0, reads: 0 });
  });

  test('a millisecond beyond the bound is confirmed before it is a yes', async () => {
    const { clock, ask, count } = world({ remembered: facts('good') });
    clock.advance(STALENESS_MAX_MS_DEFAULT + 1);
    const answer = await ask();
    expect(answer.yes).toBe(true);
    expect(answer.asOf.monotonicMs).toBe(STALENESS_MAX_MS_DEFAULT + 1);
    expect(count()).toEqual({ confirmations: 1, reads: 0 });
  });

  test('the wall clock counts too: a machine that slept has old facts, whatever the monotonic clock says', async () => {
    const { clock, ask, count } = world({ remembered: facts('good') });
    clock.advance(1);
    clock.setWall(clock.now() + 3_600_000);
    expect((await ask()).yes).toBe(true);
    expect(count().confirmations).toBe(1);
  });

  test('what the confirmation brought is judged, not what was known before it', async () => {
    const { clock, ask } = world({
      remembered: facts('good'),
      onConfirm: (memory) => {
        memory.remembered = facts('revoked');
      },
    });
    clock.advance(5_000);
    expect(await ask()).toMatchObject({ yes: false, denial: { code: 'revoked' } });
  });

  test('a yes that cannot be confirmed is a 503 and never an answer', async () => {
    const { clock, ask } = world({ remembered: facts('good'), confirmFails: true });
    clock.advance(5_000);
    await expect(ask()).rejects.toMatchObject({ code: 'store_unavailable' });
  });

  test('a read that took longer than the bound is no ground for a yes', async () => {
    const { ask, count } = world({ stored: [facts('good')], takesMs: STALENESS_MAX_MS_DEFAULT + 1 });
    await expect(ask()).rejects.toMatchObject({ code: 'store_unavailable', retryAfterSeconds: 1 });
    expect(count().reads).toBe(4);
  });

  test('a read that took exactly as long still is', async () => {
    const { ask, count } = world({ stored: [facts('good')], takesMs: STALENESS_MAX_MS_DEFAULT });
    expect((await ask()).yes).toBe(true);
    expect(count()).toEqual({ confirmations: 0, reads: 1 });
  });
});

describe('only what was confirmed after the request arrived says no (I5)', () => {
  test('a remembered no is confirmed first, and what the confirmation brought decides', async () => {
    const widened = world({
      remembered: facts('expired'),
      onConfirm: (memory) => {
        memory.remembered = undefined;
      },
      stored: [facts('good')],
    });
    widened.clock.advance(1);
    expect((await widened.ask()).yes).toBe(true);
    expect(widened.count()).toEqual({ confirmations: 1, reads: 1 });

    const same = world({ remembered: facts('expired') });
    same.clock.advance(1);
    expect(await same.ask()).toMatchObject({ yes: false, denial: { code: 'expired' } });
    expect(same.count().confirmations).toBe(1);
  });

  test('an id that is remembered as unknown may have been made a moment ago', async () => {
    const { clock, ask } = world({
      remembered: null,
      onConfirm: (memory) => {
        memory.remembered = facts('good');
      },
    });
    clock.advance(1);
    expect((await ask()).yes).toBe(true);
  });

  test('revoked is final: it needs no confirmation', async () => {
    const { clock, ask, count } = world({ remembered: facts('revoked'), confirmFails: true });
    clock.advance(60_000);
    expect(await ask()).toMatchObject({ yes: false, denial: { code: 'revoked' } });
    expect(count().confirmations).toBe(0);
  });

  test('a cold read is as old as the feed, by which tokens and signing keys are judged', async () => {
    const { clock, ask, count } = world({ stored: [null], takesMs: 10_000 });
    clock.advance(1);
    expect(await ask()).toMatchObject({ yes: false, denial: { code: 'unknown' } });
    expect(count()).toEqual({ confirmations: 1, reads: 2 });
  });

  test('and needs no confirmation when the feed is no older than the request', async () => {
    const { ask, count } = world({ stored: [null], takesMs: 10_000 });
    expect(await ask()).toMatchObject({ yes: false, denial: { code: 'unknown' } });
    expect(count()).toEqual({ confirmations: 0, reads: 1 });
  });

  test('a no that cannot be confirmed is a 503 and never a false 401', async () => {
    const { clock, ask } = world({ remembered: null, confirmFails: true });
    clock.advance(1);
    await expect(ask()).rejects.toMatchObject({ code: 'store_unavailable' });
  });
});

test('a key counts as remembered only when it exists', () => {
  expect(world({ remembered: facts('good') }).confirmed.remembers('id')).toBe(true);
  expect(world({ remembered: null }).confirmed.remembers('id')).toBe(false);
  expect(world({}).confirmed.remembers('id')).toBe(false);
});
