import { describe, expect, test } from 'vitest';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine } from '../../test/test-engine.ts';
import type { KeyVersion } from '../domain/key.ts';
import { ANY_ENVIRONMENT } from '../domain/key.ts';
import { ANY_TENANT } from '../domain/tenant.ts';
import { type Moment, momentOf } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { LimitDecision, RateLimiter } from '../rate-limit/rate-limiter.ts';
import { CHARGES_MAX, SenderBuckets } from '../rate-limit/sender-buckets.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { UsageRecorder, UsageSample } from '../usage/usage-recorder.ts';
import type { KeyLookup, LookupResult } from '../verification/key-lookup.ts';
import type { CachedKey } from '../verification/verification-cache.ts';
import { formatKey, generateKey, hashKey, parseKey } from './key-generator.ts';
import { KeyValidator } from './key-validator.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };
/** The key that made-up facts are about. */
const { key: KEY } = generateKey({ keyPrefix: 'pan', environment: 'live' });
const VERSION: KeyVersion = { version: 1, createdAt: 0, acceptedUntil: null };

/** Facts of it that a test makes up. */
function factsOf(record: object): CachedKey {
  return {
    record: {
      id: 'a',
      tenantId: 'default',
      permissions: [],
      state: { kind: 'active' },
      versions: [VERSION],
      expiresAt: null,
      notBefore: null,
      rateLimits: [{ name: 'one', limit: 1, windowSeconds: 1 }],
      quota: null,
      rotation: null,
      environment: 'live',
      ...record,
    },
    tenant: { state: 'active' },
    addresses: null,
    secrets: [{ version: 1, keyHash: hashKey(KEY), signing: null }],
  } as unknown as CachedKey;
}

function foundInMemory(facts: CachedKey | null, asOf: Moment): LookupResult {
  return { facts, damaged: null, secrets: facts?.secrets ?? [], asOf, wasRead: false, isForged: false };
}

/** Whether what was asked is answered without waiting for anything: before whatever is asked next. */
async function isAnsweredAtOnce(answer: Promise<unknown>): Promise<boolean> {
  let answered = false;
  void answer.then(() => {
    answered = true;
  });
  await Promise.resolve();
  return answered;
}

describe('every reason for a denial, once a secret has matched', () => {
  test('is checked in order: permanent ones first', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const ask = async (
      input: object,
      request: object,
      change: (id: string) => Promise<unknown> | unknown = () => {},
    ) => {
      const { key, apiKey } = await auth.keys.create({ ...INPUT, ...input });
      await change(apiKey.id);
      const answer = await auth.verify({ key, ...request });
      return answer.valid
        ? { valid: true }
        : { ...answer.denial, secretVerified: answer.secretVerified, keyId: answer.keyId === apiKey.id };
    };
    const told = (code: string, more: object = {}) => ({ code, ...more, secretVerified: true, keyId: true });
    expect(await ask({}, {})).toEqual({ valid: true });
    expect(await ask({}, { permissions: ['docs:read'] })).toEqual({ valid: true });
    expect(await ask({}, { permissions: ['docs:read', 'docs:write'] })).toEqual(
      told('insufficient_permissions', { missing: 'docs:write' }),
    );
    expect(await ask({ environment: 'test' }, {})).toEqual(told('environment_mismatch'));
    expect(await ask({ environment: 'test' }, { environment: ANY_ENVIRONMENT })).toEqual({ valid: true });
    expect(await ask({ ipAllowlist: ['10.0.0.0/8'] }, { ip: '11.0.0.1' })).toEqual(told('ip_not_allowed'));
    expect(await ask({ ipAllowlist: ['10.0.0.0/8'] }, {})).toEqual(told('ip_not_allowed'));
    expect(await ask({ ipAllowlist: ['10.0.0.0/8'] }, { ip: '::ffff:10.0.0.1' })).toEqual({ valid: true });
    expect(await ask({ notBefore: '2040-01-01T00:00:00Z' }, {})).toEqual(told('not_yet_active'));
    expect(await ask({}, {}, (id) => auth.keys.suspend(id))).toEqual(told('suspended'));
    expect(await ask({}, {}, (id) => auth.keys.revoke(id))).toEqual(told('revoked'));
    expect(await ask({ expiresIn: '1m' }, {}, () => clock.advance(60_000))).toEqual(told('expired'));
    // All at once: it is told only that it is over.
    const everything = { environment: 'test', expiresIn: '1m', ipAllowlist: ['10.0.0.0/8'] };
    const request = { permissions: ['docs:write'] };
    expect(await ask(everything, request, () => clock.advance(60_000))).toEqual(told('expired'));
    expect(await ask(everything, request, (id) => auth.keys.revoke(id))).toEqual(told('revoked'));
  });

  test('a malformed request is an error of the caller, with the name of the field', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key } = await auth.keys.create(INPUT);
    for (const [request, field] of [
      [{ permissions: ['docs:read', 'docs:*'] }, 'permissions[1]'],
      [{ permissions: ['*'] }, 'permissions[0]'],
      [{ permissions: [''] }, 'permissions[0]'],
      [{ cost: -1 }, 'cost'],
      [{ cost: 1.5 }, 'cost'],
      [{ cost: Number.NaN }, 'cost'],
      [{ cost: Number.POSITIVE_INFINITY }, 'cost'],
    ] as const)
      expect(await refusalOf(auth.verify({ key, ...request }))).toMatchObject({ code: 'invalid_request', field });
  });

  test('a key of another tenant is unknown, also with its secret', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    const { key } = await auth.tenant('acme').keys.create(INPUT);
    expect(await auth.verify({ key })).toEqual({
      valid: false,
      denial: { code: 'unknown' },
      secretVerified: false,
      keyId: null,
      retryAfterSeconds: null,
      limits: [],
      degraded: false,
    });
    for (const tenant of ['acme', ANY_TENANT] as const)
      expect(await auth.verify({ key, tenant })).toMatchObject({ valid: true });
  });
});

describe('limits', () => {
  test('are decided together and part of the answer, and a denial is counted by its code', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const { key, apiKey } = await auth.keys.create({
      ...INPUT,
      rateLimits: [
        { name: 'burst', limit: 2, window: '1s' },
        { name: 'minute', limit: 3, window: '1m' },
      ],
    });
    expect(await auth.verify({ key })).toMatchObject({
      limits: [
        { name: 'burst', remaining: 1 },
        { name: 'minute', remaining: 2 },
      ],
      degraded: false,
    });
    await auth.verify({ key });
    expect(await auth.verify({ key })).toMatchObject({
      valid: false,
      denial: { code: 'rate_limited', violated: ['burst'] },
      retryAfterSeconds: expect.any(Number),
      secretVerified: true,
    });
    clock.advance(2_000);
    // The denied one took nothing from the other limit.
    expect(await auth.verify({ key })).toMatchObject({ valid: true, limits: [{}, { remaining: 0 }] });
    expect(await auth.keys.get(apiKey.id)).toMatchObject({ usageCount: 3 });
    expect(auth.outcomes().get('rate_limited')).toBe(1);
    expect(auth.outcomes().get('valid')).toBe(3);
  });

  test('are not asked when the request is denied for another reason', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key } = await auth.keys.create({ ...INPUT, rateLimits: [{ name: 'minute', limit: 1, window: '1m' }] });
    for (let n = 0; n < 5; n += 1) await auth.verify({ key, permissions: ['docs:write'] });
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
  });
});

describe('an address with many failures', () => {
  const address = '192.0.2.9';

  test('is counted, and no key from it is denied, in memory or not', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key } = await auth.keys.create(INPUT);
    const cold = await Promise.all(Array.from({ length: 5 }, () => auth.keys.create(INPUT)));
    await auth.verify({ key });
    const wrong = wrongSecretOf(key);
    for (let n = 0; n < 3 * CHARGES_MAX; n += 1) {
      const junk = n % 3 === 0 ? wrong : generateKey({ keyPrefix: 'pan', environment: 'live' }).key;
      const answer = await auth.verify({ key: n % 3 === 1 ? 'x' : junk, ip: address });
      expect(answer).toMatchObject({ valid: false, secretVerified: false, keyId: null, retryAfterSeconds: null });
      expect(['unknown', 'malformed']).toContain(answer.valid || answer.denial.code);
    }
    expect(auth.failingSenders()).toBe(1);
    for (const one of [key, ...cold.map(({ key: other }) => other)])
      expect(await auth.verify({ key: one, ip: address })).toMatchObject({ valid: true });
    engine.clock.advance(60_000);
    expect(auth.failingSenders()).toBe(0);
  });

  test('that a caller names for a request is counted for caller and address together', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const junk = { key: generateKey({ keyPrefix: 'pan', environment: 'live' }).key, ip: address };
    for (let n = 0; n < CHARGES_MAX; n += 1) await auth.verify({ ...junk, askedBy: 'CallerCallerCall' });
    expect(auth.failingSenders()).toBe(1);
    for (let n = 0; n < CHARGES_MAX; n += 1) await auth.verify(junk);
    expect(auth.failingSenders()).toBe(2);
  });
});

/** Well formed, with the id of the key and another secret. */
function wrongSecretOf(key: string): string {
  const parsed = parseKey(key);
  if (parsed === null) throw new Error('not a key');
  const other = parseKey(generateKey({ keyPrefix: 'pan', environment: parsed.environment }).key);
  return formatKey({ ...parsed, secret: other?.secret ?? '' });
}

describe('a limiter whose answer takes', () => {
  const known = (permissions: readonly string[], kind = 'active'): CachedKey =>
    factsOf({ permissions, state: { kind, at: 0, reason: null } });

  function setUp(facts: CachedKey[], decision: () => Promise<LimitDecision>) {
    const clock = new TestClock();
    const used: UsageSample[] = [];
    let looked = 0;
    const lookup = {
      refresh: () => null,
      isFresh: ({ monotonicMs }: Moment) => clock.monotonicMs() - monotonicMs <= 1_000,
      peek: () => {
        const found = facts[Math.min(looked, facts.length - 1)] ?? null;
        looked += 1;
        return foundInMemory(found, momentOf(clock));
      },
    } as unknown as KeyLookup;
    const limiter = { decide: decision } as unknown as RateLimiter;
    const usage = {
      record: (use: UsageSample) => void used.push(use),
      recordUnmatched: () => {},
    } as unknown as UsageRecorder;
    const failures = new SenderBuckets({ clock });
    const validator = new KeyValidator({
      lookup,
      limiter,
      failures,
      usage,
      clock,
      keyPrefix: 'pan',
      expiryNotices: [],
    });
    return { clock, used, ask: () => validator.verify({ key: KEY }) };
  }

  const admitted: LimitDecision = { admitted: true, limits: [], degraded: false };

  test('longer than facts may be old: the request is decided again, and the answer shows the key as it is by then', async () => {
    const { clock, ask, used } = setUp([known(['docs:*', 'old']), known(['docs:*'])], async () => {
      clock.advance(1_001);
      return admitted;
    });
    expect(await ask()).toMatchObject({ valid: true, key: { permissions: ['docs:*'] } });
    expect(used).toMatchObject([{ outcome: 'valid' }]);
  });

  test('as long, while the key is revoked: 503, never an acceptance, and never a denial that has consumed units (I4, I8)', async () => {
    const { clock, ask, used } = setUp([known([]), known([], 'revoked')], async () => {
      clock.advance(1_001);
      return admitted;
    });
    await expect(ask()).rejects.toMatchObject({ code: 'store_unavailable', retryAfterSeconds: 1 });
    expect(used).toEqual([]);
  });

  test('less: the first decision stands', async () => {
    const { clock, ask } = setUp([known(['old']), known([], 'revoked')], async () => {
      clock.advance(1_000);
      return admitted;
    });
    expect(await ask()).toMatchObject({ valid: true, key: { permissions: ['old'] } });
  });

  test('time and then fails: its error is the answer', async () => {
    const away = new PantheonError('limiter_unavailable');
    const { ask } = setUp([known([])], async () => Promise.reject(away));
    await expect(ask()).rejects.toBe(away);
  });
});

describe('a denial by a limit', () => {
  const LIMITED = { ...INPUT, rateLimits: [{ name: 'minute', limit: 1, window: '1m' }] };
  const RAISED = { rateLimits: [{ name: 'minute', limit: 3, window: '1m' }] };

  test('that was raised on another node admits the next use here at once (I5)', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const other = await engine.openAgain();
    const { key, apiKey } = await auth.keys.create({ ...LIMITED, quota: { limit: 2, period: 'day' } });
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'rate_limited' } });
    // In the same turn of the event loop this node does not look at the head again: only the refusal makes it look.
    await auth.verify({ key });
    await other.keys.update(apiKey.id, RAISED);
    engine.clock.advance(1);
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'quota_exceeded' } });
    await other.keys.update(apiKey.id, { quota: null });
    engine.clock.advance(1);
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    expect(await auth.verify({ key })).toMatchObject({ denial: { code: 'rate_limited' } });
  });

  const known = (limit: number, kind = 'active'): CachedKey =>
    factsOf({ state: { kind, at: 0, reason: null }, rateLimits: [{ name: 'one', limit, windowSeconds: 1 }] });

  /** The first decision rests on what was confirmed a moment before the request; `found` are the facts of each. */
  function inMemory(found: readonly CachedKey[], admits: (limit: number) => boolean, confirm = async () => {}) {
    const clock = new TestClock();
    clock.advance(10_000);
    const asked: number[] = [];
    const used: UsageSample[] = [];
    const count = { decided: 0, confirmed: 0 };
    let confirmedAt = { monotonicMs: clock.monotonicMs() - 1, wallMs: clock.now() - 1 };
    const next = (): LookupResult => {
      const one = found[Math.min(count.decided, found.length - 1)] ?? null;
      count.decided += 1;
      return foundInMemory(one, confirmedAt);
    };
    const lookup = {
      refresh: () => null,
      isFresh: () => true,
      confirmSince: async () => {
        count.confirmed += 1;
        await confirm();
        confirmedAt = momentOf(clock);
      },
      peek: next,
      find: async () => next(),
    } as unknown as KeyLookup;
    const limiter = {
      decide: ({ rules }: { rules: readonly { limit: number }[] }): LimitDecision => {
        const limit = rules[0]?.limit ?? 0;
        asked.push(limit);
        if (admits(limit)) return { admitted: true, limits: [], degraded: false };
        return {
          admitted: false,
          code: 'rate_limited',
          violated: ['one'],
          retryAfterSeconds: 1,
          limits: [],
          degraded: true,
        };
      },
    } as unknown as RateLimiter;
    const usage = {
      record: (use: UsageSample) => void used.push(use),
      recordUnmatched: () => {},
    } as unknown as UsageRecorder;
    const failures = new SenderBuckets({ clock });
    const validator = new KeyValidator({
      lookup,
      limiter,
      failures,
      usage,
      clock,
      keyPrefix: 'pan',
      expiryNotices: [],
    });
    return { use: () => validator.verify({ key: KEY }), asked, used, count };
  }

  test('by cached rules is confirmed, and the limits are asked again once if the rules have changed', async () => {
    const { use, asked, used, count } = inMemory([known(1), known(2)], (limit) => limit > 1);
    expect(await use()).toMatchObject({ valid: true });
    expect({ asked, ...count }).toEqual({ asked: [1, 2], decided: 2, confirmed: 1 });
    expect(used).toMatchObject([{ outcome: 'valid' }]);
  });

  test('stands if they have not, without asking the limits again', async () => {
    const { use, asked, used, count } = inMemory([known(1)], () => false);
    expect(await use()).toMatchObject({ valid: false, denial: { code: 'rate_limited' }, degraded: true });
    expect({ asked, ...count }).toEqual({ asked: [1], decided: 2, confirmed: 1 });
    expect(used).toMatchObject([{ outcome: 'rate_limited' }]);
  });

  test('by rules that change all the time is asked twice at most', async () => {
    const { use, asked } = inMemory([known(1), known(2), known(3)], () => false);
    expect(await use()).toMatchObject({ valid: false });
    expect(asked).toEqual([1, 2]);
  });

  test('of a key that was revoked in the meantime is answered as revoked', async () => {
    const { use, asked, used } = inMemory([known(1), known(1, 'revoked')], () => false);
    expect(await use()).toMatchObject({ valid: false, denial: { code: 'revoked' } });
    expect(asked).toEqual([1]);
    expect(used).toMatchObject([{ outcome: 'revoked' }]);
  });

  test('that cannot be confirmed is a 503 and never a 429', async () => {
    const away = new PantheonError('store_unavailable');
    const { use, used } = inMemory(
      [known(1)],
      () => false,
      () => Promise.reject(away),
    );
    await expect(use()).rejects.toBe(away);
    expect(used).toEqual([]);
  });

  test('is confirmed, but an acceptance is not and waits for nothing', async () => {
    const { use, count } = inMemory([known(1)], () => true);
    const answer = use();
    expect(await isAnsweredAtOnce(answer)).toBe(true);
    expect(await answer).toMatchObject({ valid: true });
    expect(count).toEqual({ decided: 1, confirmed: 0 });
  });
});
