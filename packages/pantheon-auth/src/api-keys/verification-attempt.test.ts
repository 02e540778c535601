import { describe, expect, test } from 'vitest';
import type { EventFeed } from '../events/event-feed.ts';
import { type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { CHARGES_MAX } from '../rate-limit/sender-buckets.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { ReadQueueKey } from '../verification/cold-reads.ts';
import type { TagVerdict } from '../verification/key-lookup.ts';
import { KeyLookup, STALENESS_MAX_MS_DEFAULT } from '../verification/key-lookup.ts';
import type { Sender } from '../verification/sender.ts';
import type { DamagedKey, VersionSecret } from '../verification/stored-key.ts';
import type { CachedKey, LoadedKey, VerificationCache } from '../verification/verification-cache.ts';
import { type Evaluation, VerificationAttempt } from './verification-attempt.ts';

const YES: Evaluation<string> = { denial: null, holder: 'holder' };
const no = (code: 'revoked' | 'expired' | 'unknown'): Evaluation<string> => ({ denial: { code }, holder: null });

/** Facts that are told apart by name. What these tests decide is what the name says. */
const facts = (name: string): CachedKey => ({ record: { name }, secrets: [] }) as unknown as CachedKey;
const decideByName = (found: CachedKey | null): Evaluation<string> => {
  const name = found?.record.name ?? 'unknown';
  return name === 'good' ? YES : no(name as 'revoked');
};

/** One attempt, as the test asks for it. */
interface Ask {
  readonly sender?: Sender;
  readonly decide?: (found: CachedKey | null, now: number) => Evaluation<string>;
  readonly matches?: (secrets: readonly VersionSecret[]) => boolean;
}

interface Setting {
  readonly clock?: TestClock;
  readonly cached?: CachedKey | null;
  /** What each read of the store finds; `takesMs` long. */
  readonly stored?: (CachedKey | null)[];
  readonly takesMs?: number;
  /** What a confirmation does: by default it confirms and changes nothing. */
  readonly onConfirm?: (engine: { cached: CachedKey | null | undefined }) => void;
  readonly confirmFails?: boolean;
  readonly verdict?: TagVerdict;
  /** What a read finds of a key that does not open. */
  readonly damaged?: DamagedKey;
}

function setUp(setting: Setting) {
  const { clock = new TestClock() } = setting;
  let confirmedAt: Moment = momentOf(clock);
  const memory: { cached: CachedKey | null | undefined } = { cached: setting.cached };
  let confirmations = 0;
  let reads = 0;
  const queueKeys: ReadQueueKey[] = [];
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
    peek: () => memory.cached,
    peekDamaged: () => null,
    read: async (_id: string, queueKey: ReadQueueKey): Promise<LoadedKey> => {
      queueKeys.push(queueKey);
      const readAt = momentOf(clock);
      const found = setting.stored?.[Math.min(reads, setting.stored.length - 1)] ?? null;
      reads += 1;
      clock.advance(setting.takesMs ?? 0);
      return { facts: found, damaged: setting.damaged ?? null, readAt };
    },
  } as unknown as VerificationCache;
  const tags = { verdict: () => setting.verdict ?? 'issued' };
  const lookup = new KeyLookup({ cache, tags, feed, clock, stalenessMaxMs: STALENESS_MAX_MS_DEFAULT });
  const begin = (sender: Sender = { address: '192.0.2.1', askedBy: null }): VerificationAttempt =>
    new VerificationAttempt({ lookup, clock }, 'id', { arrived: momentOf(clock), sender });
  const ask = async ({ sender, decide = decideByName, matches = () => false }: Ask = {}) => {
    for (const attempt = begin(sender); ; ) {
      const found = await attempt.find();
      attempt.assertReadable(matches(found.secrets));
      const evaluation = decide(found.facts, attempt.now);
      if (attempt.settles(evaluation)) return { ...evaluation, asOf: found.asOf };
    }
  };
  return { clock, begin, ask, memory, queueKeys, count: () => ({ confirmations, reads }) };
}

describe('an acceptance rests on facts of a bounded age (I4)', () => {
  test('young facts give an answer at once, without a promise, a read or a confirmation', () => {
    const { clock, begin, count } = setUp({ cached: facts('good') });
    clock.advance(STALENESS_MAX_MS_DEFAULT);
    const attempt = begin();
    expect(attempt.find()).toMatchObject({ facts: { record: { name: 'good' } } });
    expect(attempt.settles(YES)).toBe(true);
    expect(count()).toEqual({ confirmations: 0, reads: 0 });
  });

  test('facts a millisecond beyond the bound are confirmed before an acceptance', async () => {
    const { clock, ask, count } = setUp({ cached: facts('good') });
    clock.advance(STALENESS_MAX_MS_DEFAULT + 1);
    const answer = await ask();
    expect(answer.denial).toBeNull();
    expect(answer.asOf.monotonicMs).toBe(STALENESS_MAX_MS_DEFAULT + 1);
    expect(count()).toEqual({ confirmations: 1, reads: 0 });
  });

  test('the wall clock counts too: after a machine has slept its facts are old, whatever the monotonic clock says', async () => {
    const { clock, ask, count } = setUp({ cached: facts('good') });
    clock.advance(1);
    clock.setWall(clock.now() + 3_600_000);
    expect((await ask()).denial).toBeNull();
    expect(count().confirmations).toBe(1);
  });

  test('the decision uses the confirmed facts, not the earlier ones', async () => {
    const { clock, ask } = setUp({
      cached: facts('good'),
      onConfirm: (memory) => {
        memory.cached = facts('revoked');
      },
    });
    clock.advance(5_000);
    expect(await ask()).toMatchObject({ denial: { code: 'revoked' } });
  });

  test('an acceptance that cannot be confirmed is a 503', async () => {
    const { clock, ask } = setUp({ cached: facts('good'), confirmFails: true });
    clock.advance(5_000);
    await expect(ask()).rejects.toMatchObject({ code: 'store_unavailable' });
  });

  test('a read that took longer than the bound does not suffice for an acceptance', async () => {
    const { ask, count } = setUp({ stored: [facts('good')], takesMs: STALENESS_MAX_MS_DEFAULT + 1 });
    await expect(ask()).rejects.toMatchObject({ code: 'store_unavailable', retryAfterSeconds: 1 });
    expect(count().reads).toBe(4);
  });

  test('a read that took exactly as long does', async () => {
    const { ask, count } = setUp({ stored: [facts('good')], takesMs: STALENESS_MAX_MS_DEFAULT });
    expect((await ask()).denial).toBeNull();
    expect(count()).toEqual({ confirmations: 0, reads: 1 });
  });
});

describe('while the time is in doubt', () => {
  const ENDS_AT = 1_000;
  const untilThen = (_: CachedKey | null, now: number): Evaluation<string> => (now < ENDS_AT ? YES : no('expired'));
  const inDoubt = (ms: number): TestClock => Object.defineProperty(new TestClock(0), 'doubted', { value: ms });

  test('a key that has expired by one of the two times is neither accepted nor denied, and one that is valid by both is accepted', async () => {
    const { ask } = setUp({ cached: facts('good'), clock: inDoubt(ENDS_AT) });
    await expect(ask({ decide: untilThen })).rejects.toMatchObject({ code: 'clock_in_doubt' });
    const alive = setUp({ cached: facts('good'), clock: inDoubt(ENDS_AT - 1) });
    expect((await alive.ask({ decide: untilThen })).denial).toBeNull();
  });

  test('a key that is denied by the time in use is denied', async () => {
    const { ask } = setUp({ cached: facts('revoked'), clock: inDoubt(ENDS_AT) });
    expect(await ask()).toMatchObject({ denial: { code: 'revoked' } });
  });
});

describe('a denial needs facts that were confirmed after the request arrived (I5)', () => {
  test('a cached denial is confirmed first, and the confirmed facts decide', async () => {
    const widened = setUp({
      cached: facts('expired'),
      onConfirm: (memory) => {
        memory.cached = undefined;
      },
      stored: [facts('good')],
    });
    widened.clock.advance(1);
    expect((await widened.ask()).denial).toBeNull();
    expect(widened.count()).toEqual({ confirmations: 1, reads: 1 });

    const same = setUp({ cached: facts('expired') });
    same.clock.advance(1);
    expect(await same.ask()).toMatchObject({ denial: { code: 'expired' } });
    expect(same.count().confirmations).toBe(1);
  });

  test('an id that is cached as unknown is read again: its key may have been created a moment ago', async () => {
    const { clock, ask } = setUp({
      cached: null,
      onConfirm: (memory) => {
        memory.cached = facts('good');
      },
    });
    clock.advance(1);
    expect((await ask()).denial).toBeNull();
  });

  test('a revoked key is denied without a confirmation, because revocation is final', async () => {
    const { clock, ask, count } = setUp({ cached: facts('revoked'), confirmFails: true });
    clock.advance(60_000);
    expect(await ask()).toMatchObject({ denial: { code: 'revoked' } });
    expect(count().confirmations).toBe(0);
  });

  test('the facts of a cold read are as old as the feed, by which tokens and signing keys are decided', async () => {
    const { clock, ask, count } = setUp({ stored: [null], takesMs: 10_000 });
    clock.advance(1);
    expect(await ask()).toMatchObject({ denial: { code: 'unknown' } });
    expect(count()).toEqual({ confirmations: 1, reads: 2 });
  });

  test('and need no confirmation if the feed is no older than the request', async () => {
    const { ask, count } = setUp({ stored: [null], takesMs: 10_000 });
    expect(await ask()).toMatchObject({ denial: { code: 'unknown' } });
    expect(count()).toEqual({ confirmations: 0, reads: 1 });
  });

  test('a denial that cannot be confirmed is a 503 and never a wrong 401', async () => {
    const { clock, ask } = setUp({ cached: null, confirmFails: true });
    clock.advance(1);
    await expect(ask()).rejects.toMatchObject({ code: 'store_unavailable' });
  });
});

describe('an id that this store cannot have issued', () => {
  test('is unknown without a read or a confirmation while the list of tag secrets is young enough', async () => {
    const { clock, ask, count } = setUp({ verdict: 'forged', stored: [facts('good')] });
    clock.advance(STALENESS_MAX_MS_DEFAULT);
    expect(await ask()).toMatchObject({ denial: { code: 'unknown' }, holder: null });
    expect(count()).toEqual({ confirmations: 0, reads: 0 });
  });

  test('is unknown only after the list was confirmed if that is older: the secret may be new', async () => {
    const { clock, ask, count } = setUp({ verdict: 'forged' });
    clock.advance(STALENESS_MAX_MS_DEFAULT + 1);
    expect(await ask()).toMatchObject({ denial: { code: 'unknown' } });
    expect(count()).toEqual({ confirmations: 1, reads: 0 });
    const away = setUp({ verdict: 'forged', confirmFails: true });
    away.clock.advance(STALENESS_MAX_MS_DEFAULT + 1);
    await expect(away.ask()).rejects.toMatchObject({ code: 'store_unavailable' });
  });

  test('is not checked if the key is in memory', async () => {
    const { ask } = setUp({ verdict: 'forged', cached: facts('good') });
    expect(await ask()).toMatchObject({ denial: null });
  });

  test('charges no sender: there was no read', async () => {
    const { ask, queueKeys } = setUp({ verdict: 'forged' });
    for (let n = 0; n < 10 * CHARGES_MAX; n += 1) await ask();
    expect(queueKeys).toEqual([]);
  });
});

describe('the lane of a read', () => {
  const lanes = (queueKeys: readonly ReadQueueKey[]) => queueKeys.map(({ lane }) => lane);

  test('is the main one for an issued id, and the doubtful one if only the store can tell', async () => {
    const issued = setUp({ stored: [null] });
    await issued.ask();
    const uncertain = setUp({ stored: [null], verdict: 'uncertain' });
    await uncertain.ask();
    expect([...lanes(issued.queueKeys), ...lanes(uncertain.queueKeys)]).toEqual(['main', 'doubtful']);
  });

  test('is the doubtful one for a sender that has been charged for reads that matched no secret, until that is forgiven', async () => {
    const { clock, ask, queueKeys } = setUp({ stored: [null] });
    const other = { address: '192.0.2.2', askedBy: null };
    for (let n = 0; n < CHARGES_MAX; n += 1) await ask();
    await ask();
    await ask({ sender: other });
    expect(lanes(queueKeys).slice(-2)).toEqual(['doubtful', 'main']);
    clock.advance(2_000);
    await ask();
    expect(lanes(queueKeys).at(-1)).toBe('main');
  });

  test('stays the main one for a sender with a valid secret, allowed or not', async () => {
    const { ask, queueKeys } = setUp({ stored: [facts('good')] });
    const refused = (): Evaluation<string> => ({ denial: { code: 'suspended' }, holder: 'holder' });
    for (let n = 0; n < 2 * CHARGES_MAX; n += 1) {
      await ask();
      await ask({ decide: refused });
    }
    expect(new Set(lanes(queueKeys))).toEqual(new Set(['main']));
  });

  test('of an address that a caller names depends on caller and address together: the address itself is not charged', async () => {
    const { ask, queueKeys } = setUp({ stored: [null] });
    const named = { address: '192.0.2.1', askedBy: 'CallerCallerCall' };
    for (let n = 0; n < CHARGES_MAX + 1; n += 1) await ask({ sender: named });
    expect(lanes(queueKeys).at(-1)).toBe('doubtful');
    await ask();
    expect(lanes(queueKeys).at(-1)).toBe('main');
  });

  test('of a call in this process without an address depends on the tag alone', async () => {
    const { ask, queueKeys } = setUp({ stored: [null] });
    for (let n = 0; n < 2 * CHARGES_MAX; n += 1) await ask({ sender: { address: null, askedBy: null } });
    expect(new Set(lanes(queueKeys))).toEqual(new Set(['main']));
  });
});

describe('a key whose rows cannot be decrypted', () => {
  const error = new PantheonError('key_quarantined');
  const secrets = [{ version: 1 }] as unknown as readonly VersionSecret[];

  test('is unknown for a sender without a secret of it, and 503 for one with a secret', async () => {
    const { ask } = setUp({ damaged: { error, secrets } });
    const asked: unknown[] = [];
    const matches = (these: readonly VersionSecret[]) => asked.push(these) > 0;
    expect(await ask()).toMatchObject({ denial: { code: 'unknown' }, holder: null });
    await expect(ask({ matches })).rejects.toBe(error);
    expect(asked).toEqual([secrets]);
  });

  test('is 503 for every sender if it cannot be told who holds a secret', async () => {
    const { ask } = setUp({ damaged: { error, secrets: null } });
    await expect(ask()).rejects.toBe(error);
  });

  test('charges a sender without a secret of it for the read', async () => {
    for (const damaged of [
      { error, secrets },
      { error, secrets: null },
    ]) {
      const { ask, queueKeys } = setUp({ damaged });
      for (let n = 0; n < CHARGES_MAX + 1; n += 1) await ask().catch(() => {});
      expect(queueKeys.at(-1)?.lane).toBe('doubtful');
      const holder = setUp({ damaged: { error, secrets } });
      for (let n = 0; n < CHARGES_MAX + 1; n += 1) await holder.ask({ matches: () => true }).catch(() => {});
      expect(holder.queueKeys.at(-1)?.lane).toBe('main');
    }
  });
});
