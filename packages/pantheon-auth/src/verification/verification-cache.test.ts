import { describe, expect, test } from 'vitest';
import type { EventNotice } from '../events/ledger.ts';
import { PantheonError } from '../foundation/errors.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { DamagedKey, KeySource, StoredKey } from './stored-key.ts';
import { DAMAGED_CACHED_MS, VerificationCache } from './verification-cache.ts';

const COLD_READS_MAX = 4;
const QUEUE_KEY = { lane: 'main', owner: 'a', account: 'a' } as const;

/** A read of the store that ends when the test says so. */
interface HeldRead {
  readonly id: string;
  answer(stored: StoredKey | DamagedKey | null): void;
  fail(error: Error): void;
}

function setUp(knownKeysMax?: number, knownKeysBytesMax?: number) {
  const reads: HeldRead[] = [];
  const told: PantheonError[] = [];
  const clock = new TestClock();
  const source: KeySource = {
    findToVerify: (id: string) =>
      new Promise<StoredKey | DamagedKey | null>((answer, fail) => {
        reads.push({ id, answer, fail });
      }),
  };
  const cache = new VerificationCache({
    source,
    clock,
    coldReadsMax: COLD_READS_MAX,
    onDamaged: (error) => told.push(error),
    ...(knownKeysMax && { knownKeysMax }),
    ...(knownKeysBytesMax && { knownKeysBytesMax }),
  });
  const heldRead = (at = reads.length - 1): HeldRead => {
    const read = reads[at];
    if (read === undefined) throw new Error('No such read was begun.');
    return read;
  };
  /** Reads a key into the cache. */
  const warm = async (id: string, stored: StoredKey | DamagedKey | null): Promise<void> => {
    const finding = cache.read(id, QUEUE_KEY);
    await settled();
    heldRead().answer(stored);
    await finding;
  };
  return { cache, clock, reads, heldRead, warm, told };
}

/** Lets everything run that waits for nothing. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const stored = (name: string, tenantId = 'default', ipAllowlist: string[] = []): StoredKey =>
  ({
    record: { id: name, name, tenantId, ipAllowlist },
    tenant: { id: tenantId },
    secrets: [],
  }) as unknown as StoredKey;

const event = (subjectType: EventNotice['subjectType'], subjectId: string): EventNotice => ({
  seq: 1,
  id: 'event-1',
  type: 'key.updated',
  tenantId: 'default',
  subjectType,
  subjectId,
});

const nameOf = (facts: { record: { name: string } } | null | undefined): string | null | undefined =>
  facts === undefined ? undefined : (facts?.record.name ?? null);

describe('caching', () => {
  test('existing and unknown ids are both cached, separately', async () => {
    const { cache, warm } = setUp();
    expect(cache.peek('a')).toBeUndefined();
    await warm('a', stored('a'));
    await warm('b', null);
    expect(nameOf(cache.peek('a'))).toBe('a');
    expect(cache.peek('b')).toBeNull();
  });

  test('many unknown ids remove no existing key from the cache', async () => {
    const { cache, warm } = setUp(10);
    await warm('a', stored('a'));
    for (let n = 0; n < 50; n += 1) await warm(`made-up-${n}`, null);
    expect(nameOf(cache.peek('a'))).toBe('a');
  });

  test('the cache is bounded', async () => {
    const { cache, warm } = setUp(2);
    for (const id of ['a', 'b', 'c']) await warm(id, stored(id));
    expect(['a', 'b', 'c'].map((id) => nameOf(cache.peek(id)))).toEqual([undefined, 'b', 'c']);
  });

  test('addresses are parsed when a key is read, once', async () => {
    const { cache, warm } = setUp();
    await warm('a', stored('a', 'default', ['10.0.0.0/8']));
    await warm('b', stored('b'));
    expect(cache.peek('a')?.addresses?.contains('10.1.2.3')).toBe(true);
    expect(cache.peek('b')?.addresses).toBeNull();
  });
});

describe('reading', () => {
  test('many requests for one key at once are one read, with a time from before the store was asked', async () => {
    const { cache, clock, reads, heldRead } = setUp();
    const readAt = clock.monotonicMs();
    const findings = Array.from({ length: 50 }, () => cache.read('a', QUEUE_KEY));
    await settled();
    clock.advance(500);
    heldRead().answer(stored('a'));
    for (const finding of findings) expect((await finding).readAt?.monotonicMs).toBe(readAt);
    expect(reads).toHaveLength(1);
  });

  test('a read that an event invalidates answers waiting requests, is not cached, and no later request joins it', async () => {
    for (const invalidate of [
      (cache: VerificationCache) => cache.apply(event('key', 'a')),
      (cache: VerificationCache) => cache.apply(event('tenant', 'default')),
      (cache: VerificationCache) => cache.invalidate('a'),
      (cache: VerificationCache) => cache.invalidateTenant('elsewhere'),
      (cache: VerificationCache) => cache.reset(),
    ]) {
      const { cache, reads, heldRead } = setUp();
      const early = [cache.read('a', QUEUE_KEY), cache.read('a', QUEUE_KEY)];
      await settled();
      invalidate(cache);
      const late = cache.read('a', QUEUE_KEY);
      await settled();
      expect(reads).toHaveLength(2);
      heldRead(1).answer(stored('new'));
      expect(nameOf((await late).facts)).toBe('new');
      heldRead(0).answer(stored('old'));
      for (const finding of early) expect(nameOf((await finding).facts)).toBe('old');
      expect(nameOf(cache.peek('a'))).toBe('new');
    }
  });

  test('a read of an unknown id is invalidated by the creation of its key', async () => {
    const { cache, heldRead } = setUp();
    const early = cache.read('a', QUEUE_KEY);
    await settled();
    cache.apply(event('key', 'a'));
    heldRead(0).answer(null);
    expect((await early).facts).toBeNull();
    expect(cache.peek('a')).toBeUndefined();
  });

  test('an event about one key does not affect reads and entries of others', async () => {
    const { cache, reads, heldRead, warm } = setUp();
    await warm('b', stored('b'));
    const reading = cache.read('a', QUEUE_KEY);
    await settled();
    cache.apply(event('key', 'c'));
    cache.apply(event('signing_key', 'a'));
    cache.apply(event('token', 'a'));
    const joined = cache.read('a', QUEUE_KEY);
    heldRead().answer(stored('a'));
    await Promise.all([reading, joined]);
    expect(reads).toHaveLength(2);
    expect([nameOf(cache.peek('a')), nameOf(cache.peek('b'))]).toEqual(['a', 'b']);
  });

  test('settings that only management shows are not cached, and the hashes are', async () => {
    const { cache, warm } = setUp();
    const keyHash = Buffer.alloc(32, 7);
    const secret = Buffer.alloc(32, 9);
    const key = stored('a');
    const record = { ...key.record, description: 'long', metadata: { large: 'metadata' } };
    const secrets = [
      { version: 2, keyHash, signing: { kid: 'kid', secret } },
      { version: 1, keyHash: secret, signing: null },
    ];
    await warm('a', { ...key, record, secrets });
    const known = cache.peek('a');
    expect(Object.keys(known?.record ?? {})).not.toEqual(expect.arrayContaining(['description']));
    expect(JSON.stringify(known?.record)).not.toMatch(/long|metadata/);
    expect(known?.secrets).toEqual(secrets);
    expect(known?.secrets[0]?.keyHash.buffer.byteLength).toBe(96);
  });

  test('keys are cached by size, and many keys of one tenant do not remove the few of another', async () => {
    const bytesMax = 100_000;
    const { cache, warm } = setUp(undefined, bytesMax);
    await warm('few', stored('few', 'small'));
    for (let n = 0; n < 100; n += 1) await warm(`many ${n}`, stored('x'.repeat(1_000), 'large'));
    expect(cache.knownKeysBytes).toBeLessThanOrEqual(bytesMax);
    expect(cache.knownKeysBytes).toBeGreaterThan(bytesMax * 0.9);
    expect([nameOf(cache.peek('few')), nameOf(cache.peek('many 0'))]).toEqual(['few', undefined]);
    expect(nameOf(cache.peek('many 99'))).toHaveLength(1_000);
  });

  test('an event about a tenant removes all its keys and no others', async () => {
    const { cache, warm } = setUp();
    await warm('a', stored('a', 'acme'));
    await warm('b', stored('b', 'other'));
    cache.apply(event('tenant', 'acme'));
    expect([nameOf(cache.peek('a')), nameOf(cache.peek('b'))]).toEqual([undefined, 'b']);
  });

  test('a failed read is an error for all waiting requests, and the next one reads again', async () => {
    const { cache, reads, heldRead } = setUp();
    const outage = new PantheonError('store_unavailable');
    const findings = [cache.read('a', QUEUE_KEY), cache.read('a', QUEUE_KEY)];
    await settled();
    heldRead().fail(outage);
    for (const finding of findings) await expect(finding).rejects.toBe(outage);
    expect(cache.peek('a')).toBeUndefined();
    const again = cache.read('a', QUEUE_KEY);
    await settled();
    expect(reads).toHaveLength(2);
    heldRead().answer(null);
    expect((await again).facts).toBeNull();
  });
});

describe('a key whose rows cannot be decrypted', () => {
  const error = new PantheonError('key_quarantined');
  const damaged: DamagedKey = { error, secrets: null };

  test('is read once, logged once, and cached until an event names it', async () => {
    for (const invalidate of [
      (cache: VerificationCache) => cache.apply(event('key', 'a')),
      (cache: VerificationCache) => cache.apply(event('tenant', 'default')),
      (cache: VerificationCache) => cache.reset(),
    ]) {
      const { cache, warm, told } = setUp();
      await warm('a', damaged);
      expect(cache.peekDamaged('a')).toEqual(damaged);
      expect(cache.peek('a')).toBeUndefined();
      expect(told).toEqual([error]);
      invalidate(cache);
      expect(cache.peekDamaged('a')).toBeNull();
    }
  });

  test('is read again after a while, without being logged again, and removed when its rows were repaired', async () => {
    const { cache, clock, warm, told } = setUp();
    await warm('a', damaged);
    clock.advance(DAMAGED_CACHED_MS);
    expect(cache.peekDamaged('a')).toBeNull();
    await warm('a', { error: new PantheonError('key_quarantined'), secrets: null });
    expect(cache.peekDamaged('a')?.error).toBe(error);
    expect(told).toEqual([error]);
    await warm('a', stored('a'));
    expect(cache.peekDamaged('a')).toBeNull();
    expect(nameOf(cache.peek('a'))).toBe('a');
  });

  test('is not cached if an event invalidated the read', async () => {
    const { cache, heldRead } = setUp();
    const finding = cache.read('a', QUEUE_KEY);
    await settled();
    cache.apply(event('key', 'a'));
    heldRead().answer(damaged);
    expect((await finding).damaged).toEqual(damaged);
    expect(cache.peekDamaged('a')).toBeNull();
  });
});
