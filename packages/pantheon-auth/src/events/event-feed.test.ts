import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { NonDecreasingClock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { TestClock } from '../testing/test-clock.ts';
import { CATCH_UP_MAX, EventFeed, type Follower } from './event-feed.ts';
import type { EventNotice, Head, LogReader } from './ledger.ts';

// The feed asks by itself now and then: only when a test lets it.
beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

const OUTAGE = new PantheonError('store_unavailable');

/** A log in memory. `isAsync`: like PostgreSQL, whose head has to be waited for. */
class FakeLog implements LogReader {
  notices: EventNotice[] = [];
  headAt = 0;
  headReads = 0;
  isAway = false;
  /** While set, an asynchronous head is not told before it. */
  gate: Promise<void> = Promise.resolve();
  readonly headSync: (() => Head) | null;
  storeNow: number | null = null;
  server = 'first';
  /** What a notification does. */
  notified = (): void => {};

  constructor(isAsync = false) {
    this.headSync = isAsync ? null : () => this.#read();
  }

  onNotify(listener: () => void): void {
    this.notified = listener;
  }

  async head(): Promise<Head> {
    const head = this.#read();
    await this.gate;
    return head;
  }

  async noticesFrom(seq: number, limit: number): Promise<readonly EventNotice[]> {
    return this.notices.filter((notice) => notice.seq >= seq).slice(0, limit);
  }

  append(count = 1): void {
    for (let n = 0; n < count; n += 1) this.notices.push(notice(this.notices.length + 1));
  }

  #read(): Head {
    this.headReads += 1;
    if (this.isAway) throw OUTAGE;
    const last = this.notices.at(-1);
    return {
      seq: last?.seq ?? 0,
      at: this.headAt,
      eventId: last?.id ?? null,
      server: this.server,
      storeNow: this.storeNow,
    };
  }
}

function notice(seq: number, branch = 'main'): EventNotice {
  return {
    seq,
    id: `${branch}-${seq}`,
    type: 'key.revoked',
    tenantId: 'default',
    subjectType: 'key',
    subjectId: `key-${seq}`,
  };
}

class Recorder implements Follower {
  readonly applied: number[] = [];
  resets = 0;
  failures = 0;

  async apply({ seq }: EventNotice): Promise<void> {
    if (this.failures > 0) {
      this.failures -= 1;
      throw OUTAGE;
    }
    this.applied.push(seq);
  }

  async reset(): Promise<void> {
    if (this.failures > 0) {
      this.failures -= 1;
      throw OUTAGE;
    }
    this.resets += 1;
  }
}

async function started(options: { isAsync?: boolean; events?: number } = {}) {
  const log = new FakeLog(options.isAsync);
  log.append(options.events ?? 0);
  const time = new TestClock();
  const clock = new NonDecreasingClock(time);
  const feed = new EventFeed({ log, clock });
  const follower = new Recorder();
  feed.follow(follower);
  await feed.start();
  /** Asks as a verification would, some time later. */
  const refresh = async (afterMs = 5): Promise<void> => {
    time.advance(afterMs);
    const caughtUp = feed.refresh({ monotonicMs: clock.monotonicMs(), wallMs: clock.now() });
    if (caughtUp !== null) await caughtUp;
  };
  return { log, time, clock, feed, follower, refresh };
}

describe('following', () => {
  test('the feed starts at the head: earlier events are loaded, not followed', async () => {
    const { feed, follower } = await started({ events: 3 });
    expect(feed.position).toBe(3);
    expect(follower.applied).toEqual([]);
  });

  test('every event is applied once, in order, before the position passes it', async () => {
    const { log, feed, follower, refresh } = await started();
    const positions: number[] = [];
    feed.follow({ apply: () => void positions.push(feed.position), reset: () => {} });
    log.append(2_500);
    await refresh();
    expect(follower.applied).toEqual(log.notices.map(({ seq }) => seq));
    expect(positions).toEqual(log.notices.map(({ seq }) => seq - 1));
    expect(feed.position).toBe(2_500);
    await refresh();
    expect(follower.applied).toHaveLength(2_500);
  });

  test('an event with an unknown type or subject makes followers reset', async () => {
    const { log, follower, refresh } = await started();
    log.append(3);
    const [known, ...rest] = log.notices;
    const later = { ...known, type: 'plan.updated', subjectType: 'plan' } as unknown as EventNotice;
    const crossed = { ...known, subjectType: 'tenant' } as unknown as EventNotice;
    log.notices = [known, ...rest].map((notice, at) => ({
      ...(at === 1 ? later : at === 2 ? crossed : notice),
      seq: at + 1,
    })) as EventNotice[];
    await refresh();
    expect(follower.applied).toEqual([1]);
    expect(follower.resets).toBe(2);
  });

  test('events that are written while others are applied are not skipped', async () => {
    const { log, feed, follower, refresh } = await started();
    feed.follow({
      apply: ({ seq }) => {
        if (seq < 5) log.append();
      },
      reset: () => {},
    });
    log.append();
    for (let n = 0; n < 5; n += 1) await refresh();
    expect(follower.applied).toEqual([1, 2, 3, 4, 5]);
    expect(follower.resets).toBe(0);
  });

  test('events beyond the head that was read are applied too, and not again later', async () => {
    const { log, time, feed, follower } = await started({ isAsync: true });
    let open = (): void => {};
    log.gate = new Promise((resolve) => {
      open = resolve;
    });
    log.append(2);
    time.advance(1);
    const confirmed = feed.confirm(time.monotonicMs());
    await nextTurn();
    log.append(3);
    open();
    await confirmed;
    expect([feed.position, follower.applied]).toEqual([5, [1, 2, 3, 4, 5]]);
    time.advance(1);
    await feed.confirm(time.monotonicMs());
    expect([feed.position, follower.applied.length, follower.resets]).toEqual([5, 5, 0]);
  });

  test('a gap, a shorter log and a burst beyond the bound make followers reset', async () => {
    const gap = await started({ events: 2 });
    gap.log.notices.push(notice(4));
    await gap.refresh();
    expect([gap.follower.resets, gap.follower.applied, gap.feed.position]).toEqual([1, [], 4]);

    const restored = await started({ events: 5 });
    restored.log.notices = restored.log.notices.slice(0, 2);
    await restored.refresh();
    expect([restored.follower.resets, restored.feed.position]).toEqual([1, 2]);

    const truncated = await started({ events: 2 });
    truncated.log.append();
    truncated.log.noticesFrom = async () => [];
    await truncated.refresh();
    expect([truncated.follower.resets, truncated.feed.position]).toEqual([1, 3]);

    const burst = await started();
    burst.log.append(CATCH_UP_MAX + 1);
    await burst.refresh();
    expect([burst.follower.resets, burst.follower.applied, burst.feed.position]).toEqual([1, [], CATCH_UP_MAX + 1]);

    const full = await started();
    full.log.append(CATCH_UP_MAX);
    await full.refresh();
    expect([full.follower.resets, full.follower.applied.length]).toEqual([0, CATCH_UP_MAX]);
  });

  test('when a follower fails, the position stays before its event, and the next attempt continues there', async () => {
    const { log, feed, follower, refresh } = await started();
    const confirmedBefore = feed.confirmedAt;
    log.append(3);
    follower.failures = 1;
    await expect(refresh()).rejects.toBe(OUTAGE);
    expect(feed.position).toBe(0);
    expect(feed.confirmedAt).toEqual(confirmedBefore);
    await refresh();
    expect([feed.position, follower.applied]).toEqual([3, [1, 2, 3]]);
  });

  test('when a reset fails, the position stays where it was', async () => {
    const { log, feed, follower, refresh } = await started({ events: 4 });
    log.notices = log.notices.slice(0, 1);
    follower.failures = 1;
    await expect(refresh()).rejects.toBe(OUTAGE);
    expect(feed.position).toBe(4);
    await refresh();
    expect([feed.position, follower.resets]).toEqual([1, 1]);
  });

  test('for any sequence of events and reads, every event is applied exactly once and in order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 20 }), async (steps) => {
        const { log, follower, refresh, feed, time } = await started({ isAsync: steps.length % 2 === 0 });
        const asked: Promise<void>[] = [];
        for (const step of steps) {
          log.append(step);
          asked.push(refresh(), feed.confirm(time.monotonicMs()));
          if (step === 0) await nextTurn();
        }
        await Promise.all(asked);
        time.advance(1);
        await feed.confirm(time.monotonicMs());
        expect(follower.applied).toEqual(log.notices.map(({ seq }) => seq));
        expect(feed.position).toBe(log.notices.length);
      }),
      { numRuns: 50 },
    );
  });
});

describe('the age of the position', () => {
  test('the time is taken before the head is read, so a slow answer counts as old', async () => {
    const { log, time, feed } = await started({ isAsync: true });
    let open = (): void => {};
    log.gate = new Promise((resolve) => {
      open = resolve;
    });
    time.advance(10);
    const askedAt = time.monotonicMs();
    const confirmed = feed.confirm(askedAt);
    await nextTurn();
    time.advance(700);
    open();
    await confirmed;
    expect(feed.confirmedAt.monotonicMs).toBe(askedAt);
  });

  test('refresh does not read a head that has to be waited for', async () => {
    const { log, refresh } = await started({ isAsync: true });
    const before = log.headReads;
    await refresh(10_000);
    expect(log.headReads).toBe(before);
  });

  test('many requests that need a confirmation at once share one read of the head', async () => {
    const { log, time, feed } = await started({ isAsync: true });
    const before = log.headReads;
    time.advance(1);
    const since = time.monotonicMs();
    await Promise.all(Array.from({ length: 100 }, () => feed.confirm(since)));
    expect(log.headReads - before).toBe(1);
  });

  test('a request that arrived after a read had begun needs another one', async () => {
    const { log, time, feed } = await started({ isAsync: true });
    const before = log.headReads;
    time.advance(1);
    const first = feed.confirm(time.monotonicMs());
    time.advance(1);
    const later = time.monotonicMs();
    const second = feed.confirm(later);
    await Promise.all([first, second]);
    expect(log.headReads - before).toBe(2);
    expect(feed.confirmedAt.monotonicMs).toBeGreaterThanOrEqual(later);
  });

  test('the head is read once per turn of the event loop, and again in a long turn', async () => {
    const { log, refresh } = await started();
    await nextTurn();
    const before = log.headReads;
    await refresh(0.2);
    for (let n = 0; n < 4; n += 1) await refresh(0.2);
    expect(log.headReads - before).toBe(1);
    await refresh(1);
    expect(log.headReads - before).toBe(2);
    await nextTurn();
    await refresh(0.1);
    expect(log.headReads - before).toBe(3);
  });

  test('whoever comes in the same turn waits for the events that the read of the head in it has found', async () => {
    const { log, feed, follower, refresh } = await started();
    await nextTurn();
    log.append();
    const all = [refresh(0), refresh(0), refresh(0)];
    expect(follower.applied).toEqual([]);
    await all[2];
    expect([feed.position, follower.applied]).toEqual([1, [1]]);
    await Promise.all(all);
  });

  test('after a failure to apply events the next request of the turn reads the head again', async () => {
    const { log, feed, follower, refresh } = await started();
    await nextTurn();
    log.append();
    const { noticesFrom } = log;
    log.noticesFrom = async () => {
      throw new Error('away');
    };
    await expect(refresh(0)).rejects.toThrow('away');
    log.noticesFrom = noticesFrom;
    await refresh(0);
    expect([feed.position, follower.applied]).toEqual([1, [1]]);
  });

  test('an outage of the store rejects every waiting request, changes nothing, and ends with the outage', async () => {
    const { log, time, feed, follower } = await started({ isAsync: true });
    const confirmedBefore = feed.confirmedAt;
    log.isAway = true;
    log.append();
    time.advance(1);
    const waiting = Array.from({ length: 3 }, () => feed.confirm(time.monotonicMs()));
    expect((await Promise.allSettled(waiting)).map(({ status }) => status)).toEqual([
      'rejected',
      'rejected',
      'rejected',
    ]);
    expect([feed.position, feed.confirmedAt]).toEqual([0, confirmedBefore]);
    log.isAway = false;
    await feed.confirm(time.monotonicMs());
    expect([feed.position, follower.applied]).toEqual([1, [1]]);
  });

  test('events are applied when the head has moved, also if the clock has not', async () => {
    const { log, feed, follower, refresh } = await started();
    await refresh();
    await nextTurn();
    log.append(2);
    await refresh(0);
    expect([feed.position, follower.applied]).toEqual([2, [1, 2]]);
  });

  test('a request that sees a newer head than the one being applied waits for the next run', async () => {
    const { log, feed, follower, refresh } = await started();
    log.append();
    const first = refresh();
    log.append();
    const second = refresh();
    await Promise.all([first, second]);
    expect([feed.position, follower.applied]).toEqual([2, [1, 2]]);
  });

  test('an older time never replaces a later confirmation', async () => {
    const { time, clock, feed, refresh } = await started();
    const older = { monotonicMs: clock.monotonicMs(), wallMs: clock.now() };
    await refresh(50);
    await nextTurn();
    time.advance(1);
    expect(feed.refresh(older)).toBeNull();
    expect(feed.confirmedAt.monotonicMs).toBe(50);
  });

  test('an event with a later date moves the clock of this node forward (I14)', async () => {
    const { log, time, clock, refresh } = await started();
    log.append();
    log.headAt = time.now() + 60_000;
    await refresh();
    expect(clock.now()).toBeGreaterThanOrEqual(log.headAt);
  });
});

describe('if the head is read from a server', () => {
  async function polled() {
    const watched: string[] = [];
    const log = new FakeLog(true);
    const time = new TestClock();
    const clock = new NonDecreasingClock(time, { onSkew: (byMs) => watched.push(`apart ${byMs}`) });
    const watcher = {
      onStalled: (error: unknown) => watched.push(`stalled ${String(error)}`),
      onFollowing: () => watched.push('following'),
    };
    const feed = new EventFeed({ log, clock, watcher });
    const follower = new Recorder();
    feed.follow(follower);
    await feed.start();
    /** Time passes, and what it sets off is done. */
    const pass = async (ms: number): Promise<void> => {
      for (let passed = 0; passed < ms; passed += 25) {
        time.advance(25);
        vi.advanceTimersByTime(25);
        for (let n = 0; n < 20; n += 1) await nextTurn();
      }
    };
    return { log, time, clock, feed, follower, watched, pass };
  }

  test('it is read about ten times a second, also without verifications and if every notification is lost', async () => {
    const { log, feed, follower, time, pass } = await polled();
    const before = log.headReads;
    log.append(2);
    await pass(150);
    expect(follower.applied).toEqual([1, 2]);
    await pass(1_850);
    expect(log.headReads - before).toBeGreaterThanOrEqual(14);
    expect(log.headReads - before).toBeLessThanOrEqual(27);
    expect(time.monotonicMs() - feed.confirmedAt.monotonicMs).toBeLessThanOrEqual(150);
    feed.close();
  });

  test('a notification causes an earlier read, and one that arrives during a read is not lost', async () => {
    const { log, feed, follower } = await polled();
    log.append();
    log.notified();
    log.append();
    log.notified();
    for (let n = 0; n < 20; n += 1) await nextTurn();
    expect(follower.applied).toEqual([1, 2]);
    let open = (): void => {};
    log.gate = new Promise((resolve) => {
      open = resolve;
    });
    log.notified();
    await nextTurn();
    log.append();
    log.notified();
    open();
    for (let n = 0; n < 20; n += 1) await nextTurn();
    expect(follower.applied).toEqual([1, 2, 3]);
    feed.close();
  });

  test('an outage of the store is logged once, reads continue, and its end is logged once', async () => {
    const { log, feed, follower, watched, pass } = await polled();
    log.isAway = true;
    await pass(500);
    expect(watched).toEqual([`stalled ${String(OUTAGE)}`]);
    log.append();
    log.isAway = false;
    await pass(200);
    expect(watched).toEqual([`stalled ${String(OUTAGE)}`, 'following']);
    expect(follower.applied).toEqual([1]);
    feed.close();
  });

  test('nothing is read after the feed was stopped', async () => {
    const { log, feed, pass } = await polled();
    feed.close();
    const before = log.headReads;
    log.notified();
    await pass(500);
    expect(log.headReads - before).toBeLessThanOrEqual(1);
  });

  test('a server that lost the last events and has written others since has another log: followers reset', async () => {
    const { log, feed, follower, pass } = await polled();
    log.append(5);
    await pass(150);
    expect(follower.applied).toEqual([1, 2, 3, 4, 5]);
    log.notices = [...log.notices.slice(0, 3), notice(4, 'other'), notice(5, 'other'), notice(6, 'other')];
    await pass(150);
    expect([follower.resets, follower.applied.length, feed.position]).toEqual([1, 5, 6]);
    log.notices.push(notice(7, 'other'));
    await pass(150);
    expect([follower.resets, follower.applied.at(-1), feed.position]).toEqual([1, 7, 7]);
    feed.close();
  });

  test('a server that lost events and has as many again has another log too', async () => {
    const { log, feed, follower, pass } = await polled();
    log.append(2);
    await pass(150);
    log.notices = [notice(1), notice(2, 'other')];
    await pass(150);
    expect([follower.resets, feed.position]).toEqual([1, 2]);
    await pass(150);
    expect(follower.resets).toBe(1);
    feed.close();
  });

  test('the time of a store that differs much from that of the node is used, and logged once (I14)', async () => {
    const { log, time, clock, feed, watched, pass } = await polled();
    log.storeNow = time.now() + 60_000;
    await pass(125);
    expect(clock.isSkewed).toBe(true);
    expect(clock.now() - time.now()).toBeGreaterThan(59_000);
    expect(watched).toHaveLength(1);
    log.storeNow = time.now();
    await pass(125);
    expect(clock.isSkewed).toBe(false);
    feed.close();
  });

  test('another server with the same head may lack events that were read from the previous one', async () => {
    const { log, feed, follower, pass } = await polled();
    log.append(2);
    await pass(150);
    log.server = 'second';
    await pass(150);
    expect([follower.resets, feed.position]).toEqual([1, 2]);
    await pass(300);
    expect(follower.resets).toBe(1);
    feed.close();
  });
});
