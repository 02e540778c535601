import fc from 'fast-check';
import { createClient } from 'redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RedisServer, startRedis } from '../../../../../tools/servers/redis.ts';
import { describeWithOwnRedis } from '../../../../../tools/servers/scratch.ts';
import type { RateLimitRule } from '../../domain/limits.ts';
import { type RuleWindows, windowsOf } from '../memory/rule-windows.ts';
import type { LimitRequest } from '../rate-limiter.ts';
import { bucketOf, decideCall, markerKey, readAnswer, stateKey, type WindowsAnswer } from './redis-windows.ts';
import { beginScript, decideScript } from './redis-windows-script.ts';

/** The test says what time it is, in the last argument. */
const TEST_CLOCK = 'local nowMs = tonumber(table.remove(ARGV))\n';
const DECIDE = decideScript(TEST_CLOCK);
const BEGIN = beginScript(TEST_CLOCK);
const START = 1_800_000_000_123;

const rule = (name: string, limit: number, windowSeconds: number): RateLimitRule => ({ name, limit, windowSeconds });

let server: RedisServer;
let client: ReturnType<typeof createClient>;
let keys = 0;

interface Question {
  readonly rules: readonly RateLimitRule[];
  readonly cost?: number;
  readonly isTaking?: boolean;
  readonly pending?: readonly number[];
  readonly createdAt?: number;
}

/** A key of its own, in buckets that have counted from the beginning unless `since` says otherwise. */
async function newKey({ since = 0 }: { since?: number | null } = {}) {
  keys += 1;
  const keyId = `key${keys}`;
  const marker = markerKey(bucketOf(keyId));
  if (since === null) await client.del(marker);
  else await client.set(marker, since);
  const ask = async (nowMs: number, question: Question): Promise<WindowsAnswer> => {
    const { rules, cost = 1, isTaking = true, pending = [], createdAt = 0 } = question;
    const request: LimitRequest = { tenantId: 't', keyId, createdAt, rules, quota: null, cost };
    const call = decideCall(request, { now: nowMs, isTaking, pending });
    const reply = await client.eval(DECIDE, { keys: [...call.keys], arguments: [...call.args, String(nowMs)] });
    return readAnswer(reply as unknown as number[], request);
  };
  return { keyId, marker, ask };
}

/** What the windows in memory say to the same, with rules that change as they do in Redis: when something is counted. */
class Model {
  #counted: RuleWindows = { windows: [], former: [] };

  ask(nowMs: number, rules: readonly RateLimitRule[], cost: number): WindowsAnswer {
    for (const window of [...this.#counted.windows, ...this.#counted.former]) window.advance(nowMs);
    const next = windowsOf(rules, this.#counted, nowMs);
    const { windows } = next;
    const waitSeconds = windows.map((window) => (cost > window.remaining ? window.secondsUntilFits(cost, nowMs) : 0));
    const isAdmitted = waitSeconds.every((wait) => wait === 0);
    if (isAdmitted && cost > 0) {
      for (const window of windows) window.take(cost, nowMs);
      this.#counted = next;
    }
    return { isAdmitted, limits: windows.map((window) => window.state(nowMs)), waitSeconds };
  }
}

describeWithOwnRedis('the script in Redis', () => {
  beforeAll(async () => {
    server = await startRedis();
    client = createClient({ url: server.url });
    await client.connect();
  });

  afterAll(async () => {
    client?.destroy();
    await server?.[Symbol.asyncDispose]();
  });

  describe('the script computes like the windows in memory', () => {
    const rules = fc
      .uniqueArray(
        fc.record({
          name: fc.constantFrom('a', 'b'),
          limit: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constantFrom(128, 129, 1_000_000_000)),
          windowSeconds: fc.constantFrom(1, 7, 60, 3_600),
        }),
        { minLength: 1, maxLength: 3, selector: ({ windowSeconds }) => windowSeconds },
      )
      .map((list) => list as readonly RateLimitRule[]);
    const advanceMs = fc.oneof(
      fc.constantFrom(0, 4, 5, 999, 1_000, 1_004, 1_005, 60_000, 60_300),
      fc.nat({ max: 300 }),
      fc.nat({ max: 4_000_000 }),
    );
    const cost = fc.oneof(fc.nat({ max: 4 }), fc.constantFrom(13, 1_000_000));

    test('for any rules, costs, times and changes of rules the answers are the same', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(rules, { minLength: 1, maxLength: 3 }),
          fc.array(fc.tuple(advanceMs, cost, fc.nat({ max: 9 })), { minLength: 1, maxLength: 50 }),
          async (versions, steps) => {
            const { ask } = await newKey();
            const model = new Model();
            let nowMs = START;
            let version = 0;
            for (const [ms, units, turn] of steps) {
              nowMs += ms;
              if (turn === 0) version += 1;
              const now = versions[version % versions.length] ?? [];
              expect(await ask(nowMs, { rules: now, cost: units })).toEqual(model.ask(nowMs, now, units));
            }
          },
        ),
        { numRuns: 60 },
      );
    });

    test('no more than the limit is admitted in any window, wherever it begins', async () => {
      const { ask } = await newKey();
      const admitted: number[] = [];
      for (let nowMs = START; nowMs < START + 6_000; nowMs += 7) {
        if ((await ask(nowMs, { rules: [rule('r', 20, 1)] })).isAdmitted) admitted.push(nowMs);
      }
      for (const from of admitted)
        expect(admitted.filter((at) => at >= from && at < from + 1_000).length).toBeLessThanOrEqual(20);
      expect(admitted.length).toBeGreaterThan(100);
    });
  });

  describe('the stored state', () => {
    const rules = [rule('r', 5, 60)];

    test('is not changed by a check, by cost 0 and by a denial', async () => {
      const { ask, keyId } = await newKey();
      await ask(START, { rules, isTaking: false });
      await ask(START, { rules, cost: 0 });
      await ask(START, { rules, cost: 6 });
      expect(await client.exists(stateKey(keyId))).toBe(0);
    });

    test('is reported to a check as well, which is not admitted', async () => {
      const { ask } = await newKey();
      await ask(START, { rules, cost: 4 });
      const asked = await ask(START, { rules, cost: 2, isTaking: false });
      expect(asked).toMatchObject({ isAdmitted: false, limits: [{ remaining: 1 }], waitSeconds: [60] });
      expect(await ask(START, { rules, cost: 1, isTaking: false })).toMatchObject({ waitSeconds: [0] });
    });

    test('is deleted when its last entry has left; fields of removed rules stay until then, for a rule may be added again', async () => {
      const { ask, keyId } = await newKey();
      const both = [rule('r', 5, 60), rule('old', 2, 120)];
      await ask(START, { rules: both, cost: 2 });
      await ask(START, { rules });
      expect((await client.hKeys(stateKey(keyId))).toSorted()).toEqual(['old:120', 'r:60']);
      expect(await ask(START + 60_000, { rules: both })).toMatchObject({ isAdmitted: false });
      await ask(START + 120_000, { rules });
      expect(await client.hKeys(stateKey(keyId))).toEqual(['r:60']);
      const ttlMs = await client.pTTL(stateKey(keyId));
      expect(ttlMs).toBeGreaterThan(59_000);
      expect(ttlMs).toBeLessThanOrEqual(60_301);
    });

    test('is small for a full window of one key', async () => {
      const { ask, keyId } = await newKey();
      const large = [rule('r', 1_000_000_000, 60)];
      for (let part = 0; part < 210; part += 1) await ask(START + part * 300, { rules: large, cost: 1_000_000 });
      expect(await client.memoryUsage(stateKey(keyId))).toBeLessThan(2_500);
    });

    test('is exact for the largest numbers', async () => {
      const { ask } = await newKey();
      const large = [rule('r', 1_000_000_000, 31 * 86_400)];
      for (let nth = 0; nth < 999; nth += 1) await ask(START + nth, { rules: large, cost: 1_000_000 });
      expect(await ask(START + 999, { rules: large, cost: 999_999 })).toMatchObject({ limits: [{ remaining: 1 }] });
      expect(await ask(START + 999, { rules: large })).toMatchObject({ isAdmitted: true, limits: [{ remaining: 0 }] });
      expect(await ask(START + 999, { rules: large })).toMatchObject({ isAdmitted: false });
    });
  });

  describe('uses that a node admitted alone', () => {
    test('are counted before the decision, also above the limit, and also if the answer is a denial', async () => {
      const { ask } = await newKey();
      const rules = [rule('r', 5, 60), rule('s', 50, 60)];
      const answer = await ask(START, { rules, pending: [7, 3] });
      expect(answer).toMatchObject({ isAdmitted: false, limits: [{ remaining: 0 }, { remaining: 47 }] });
      expect(await ask(START + 61_001, { rules })).toMatchObject({ isAdmitted: true });
    });
  });

  describe('a Redis that lost what it counted', () => {
    const rules = [rule('short', 3, 1), rule('long', 5, 60)];

    test('starts without available units: a key is admitted when every window has passed, and then earlier uses do not count', async () => {
      const { ask, marker } = await newKey({ since: null });
      expect(await ask(START, { rules })).toMatchObject({ isAdmitted: false });
      expect(await client.get(marker)).toBe(String(START));
      expect(await ask(START + 2_000, { rules })).toMatchObject({
        isAdmitted: false,
        limits: [{ remaining: 3 }, { remaining: 0 }],
      });
      expect(await ask(START + 59_999, { rules })).toMatchObject({ isAdmitted: false });
      expect(await ask(START + 60_000, { rules, cost: 3 })).toMatchObject({ isAdmitted: true });
    });

    test('admits a key created after the loss at once, and not one created just before', async () => {
      const made = await newKey({ since: START });
      expect(await made.ask(START + 6_000, { rules, createdAt: START + 5_001 })).toMatchObject({ isAdmitted: true });
      const older = await newKey({ since: START });
      expect(await older.ask(START + 6_000, { rules, createdAt: START + 4_999 })).toMatchObject({ isAdmitted: false });
    });

    test('keeps the counts of a key that still has its entries', async () => {
      const { ask, marker } = await newKey();
      await ask(START, { rules });
      await client.del(marker);
      expect(await ask(START, { rules })).toMatchObject({
        isAdmitted: true,
        limits: [{ remaining: 1 }, { remaining: 3 }],
      });
    });

    test('is not assumed at the very first start, nor for a marker that another node of that start made just before', async () => {
      const begin = async (marker: string, nowMs: number) =>
        client.eval(BEGIN, { keys: [marker], arguments: [String(nowMs)] });
      const first = await newKey({ since: null });
      await begin(first.marker, START);
      expect(await first.ask(START, { rules })).toMatchObject({ isAdmitted: true });
      const raced = await newKey({ since: START });
      await begin(raced.marker, START + 1_000);
      expect(await raced.ask(START + 1_000, { rules })).toMatchObject({ isAdmitted: true });
      const lost = await newKey({ since: START });
      await begin(lost.marker, START + 60_000);
      expect(await client.get(lost.marker)).toBe(String(START));
    });
  });

  describe('a clock of Redis that is set back', () => {
    const rules = [rule('r', 5, 60)];

    test('denies no key for longer than a window, and admits no more', async () => {
      const { ask } = await newKey();
      await ask(START, { rules, cost: 3 });
      await ask(START + 30_000, { rules, cost: 2 });
      const back = START - 3_600_000;
      expect(await ask(back, { rules })).toMatchObject({
        isAdmitted: false,
        limits: [{ remaining: 0, resetSeconds: 60 }],
      });
      await ask(back, { rules, pending: [1] });
      expect(await ask(back + 59_999, { rules })).toMatchObject({ isAdmitted: false });
      expect(await ask(back + 60_000, { rules, cost: 5 })).toMatchObject({ isAdmitted: true });
    });

    test('counts a loss with a later date as beginning now', async () => {
      const { ask, marker } = await newKey({ since: START });
      expect(await ask(START - 3_600_000, { rules })).toMatchObject({ isAdmitted: false });
      expect(await client.get(marker)).toBe(String(START - 3_600_000));
      expect(await ask(START - 3_600_000 + 61_001, { rules })).toMatchObject({ isAdmitted: true });
    });
  });
});
