import { describe, expect, test } from 'vitest';
import type { EventFeed } from '../events/event-feed.ts';
import { type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { CHARGES_MAX } from '../rate-limit/sender-buckets.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { ReadQueueKey } from './cold-reads.ts';
import { ConfirmedFacts, type Judgement, type Question, STALENESS_MAX_MS_DEFAULT } from './confirmed-facts.ts';
import type { TagVerdict } from './id-tags.ts';
import type { DamagedKey, VersionSecret } from './key-storage.ts';
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
  readonly verdict?: TagVerdict;
  /** What a read finds of a key that does not open. */
  readonly damaged?: DamagedKey;
}

function world(setting: Setting) {
  const clock = new TestClock();
  let confirmedAt: Moment = momentOf(clock);
  const memory: { remembered: KnownKey | null | undefined } = { remembered: setting.remembered };
  let confirmations = 0;
  let reads = 0;
  const places: ReadQueueKey[] = [];
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
    rememberedDamage: () => null,
    read: async (_id: string, place: ReadQueueKey): Promise<Finding> => {
      places.push(place);
      const readAt = momentOf(clock);
      const found = setting.stored?.[Math.min(reads, setting.stored.length - 1)] ?? null;
      reads += 1;
      clock.advance(setting.takesMs ?? 0);
      return { facts: found, damaged: setting.damaged ?? null, readAt };
    },
  } as unknown as VerificationCache;
  const tags = { verdict: () => setting.verdict ?? 'issued' };
  const confirmed = new ConfirmedFacts({ cache, tags, feed, clock, stalenessMaxMs: STALENESS_MAX_MS_DEFAULT });
  const question = (more: Partial<Question<string>> = {}): Question<string> => {
    const sender = { address: '192.0.2.1', askedBy: null };
    return { keyId: 'id', arrived: momentOf(clock), judge, sender, isProvedBy: () => false, ...more };
  };
  const ask = async (more: Partial<Question<string>> = {}) => await confirmed.judge(question(more));
  return { clock, confirmed, question, ask, memory, places, count: () => ({ confirmations, reads }) };
}

describe('a yes has an age (I4)', () => {
  test('young facts answer at once, without a promise, a read or a confirmation', () => {
    const { clock, confirmed, question, count } = world({ remembered: facts('good') });
    clock.advance(STALENESS_MAX_MS_DEFAULT);
    expect(confirmed.judge(question())).toMatchObject({ yes: true, proved: 'holder' });
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

describe('an id that this store cannot have issued', () => {
  test('is unknown without a read or a confirmation, while the list of tag secrets is young enough', async () => {
    const { clock, ask, count } = world({ verdict: 'forged', stored: [facts('good')] });
    clock.advance(STALENESS_MAX_MS_DEFAULT);
    expect(await ask()).toMatchObject({ yes: false, denial: { code: 'unknown' }, proved: null });
    expect(count()).toEqual({ confirmations: 0, reads: 0 });
  });

  test('is told so only once the list was confirmed, when it is older: the secret may be new', async () => {
    const { clock, ask, count } = world({ verdict: 'forged' });
    clock.advance(STALENESS_MAX_MS_DEFAULT + 1);
    expect(await ask()).toMatchObject({ yes: false, denial: { code: 'unknown' } });
    expect(count()).toEqual({ confirmations: 1, reads: 0 });
    const away = world({ verdict: 'forged', confirmFails: true });
    away.clock.advance(STALENESS_MAX_MS_DEFAULT + 1);
    await expect(away.ask()).rejects.toMatchObject({ code: 'store_unavailable' });
  });

  test('is not looked at when the key is in memory', async () => {
    const { ask } = world({ verdict: 'forged', remembered: facts('good') });
    expect(await ask()).toMatchObject({ yes: true });
  });

  test('charges nobody: there was no read', async () => {
    const { ask, places } = world({ verdict: 'forged' });
    for (let n = 0; n < 10 * CHARGES_MAX; n += 1) await ask();
    expect(places).toEqual([]);
  });
});

describe('the lane of a read', () => {
  const lanes = (places: readonly ReadQueueKey[]) => places.map(({ lane }) => lane);

  test('is the main one for an id that was issued, and the doubtful one where only the store can tell', async () => {
    const issued = world({ stored: [null] });
    await issued.ask();
    const uncertain = world({ stored: [null], verdict: 'uncertain' });
    await uncertain.ask();
    expect([...lanes(issued.places), ...lanes(uncertain.places)]).toEqual(['main', 'doubtful']);
  });

  test('is the doubtful one for a sender that owes for reads which proved nothing, until it is paid back', async () => {
    const { clock, ask, places } = world({ stored: [null] });
    const other = { address: '192.0.2.2', askedBy: null };
    for (let n = 0; n < CHARGES_MAX; n += 1) await ask();
    await ask();
    await ask({ sender: other });
    expect(lanes(places).slice(-2)).toEqual(['doubtful', 'main']);
    clock.advance(2_000);
    await ask();
    expect(lanes(places).at(-1)).toBe('main');
  });

  test('stays the main one for whoever proves a secret, allowed or not', async () => {
    const { ask, places } = world({ stored: [facts('good')] });
    const refused = (): Judgement<string> => ({ yes: false, denial: { code: 'suspended' }, proved: 'holder' });
    for (let n = 0; n < 2 * CHARGES_MAX; n += 1) {
      await ask();
      await ask({ judge: refused });
    }
    expect(new Set(lanes(places))).toEqual(new Set(['main']));
  });

  test('of an address that a caller names is of the two together: the address itself owes nothing', async () => {
    const { ask, places } = world({ stored: [null] });
    const named = { address: '192.0.2.1', askedBy: 'CallerCallerCall' };
    for (let n = 0; n < CHARGES_MAX + 1; n += 1) await ask({ sender: named });
    expect(lanes(places).at(-1)).toBe('doubtful');
    await ask();
    expect(lanes(places).at(-1)).toBe('main');
  });

  test('of a call in this process that names no address is always that of its tag', async () => {
    const { ask, places } = world({ stored: [null] });
    for (let n = 0; n < 2 * CHARGES_MAX; n += 1) await ask({ sender: { address: null, askedBy: null } });
    expect(new Set(lanes(places))).toEqual(new Set(['main']));
  });
});

describe('a key whose rows do not open', () => {
  const error = new PantheonError('key_quarantined');
  const secrets = [{ version: 1 }] as unknown as readonly VersionSecret[];

  test('is unknown to whoever does not hold a secret of it, and 503 to whoever does', async () => {
    const { ask } = world({ damaged: { error, secrets } });
    const asked: unknown[] = [];
    const isProvedBy = (these: readonly VersionSecret[]) => asked.push(these) > 0;
    expect(await ask()).toMatchObject({ yes: false, denial: { code: 'unknown' }, proved: null });
    await expect(ask({ isProvedBy })).rejects.toBe(error);
    await expect(ask({ isProvedBy: null })).rejects.toBe(error);
    expect(asked).toEqual([secrets]);
  });

  test('is 503 to everybody where it cannot be told who holds one: never a false no', async () => {
    const { ask } = world({ damaged: { error, secrets: null } });
    await expect(ask()).rejects.toBe(error);
  });

  test('charges who proved nothing for the read', async () => {
    for (const damaged of [
      { error, secrets },
      { error, secrets: null },
    ]) {
      const { ask, places } = world({ damaged });
      for (let n = 0; n < CHARGES_MAX + 1; n += 1) await ask().catch(() => {});
      expect(places.at(-1)?.lane).toBe('doubtful');
      const holder = world({ damaged: { error, secrets } });
      for (let n = 0; n < CHARGES_MAX + 1; n += 1) await holder.ask({ isProvedBy: () => true }).catch(() => {});
      expect(holder.places.at(-1)?.lane).toBe('main');
    }
  });
});
