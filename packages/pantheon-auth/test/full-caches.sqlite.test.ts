/**
 * Every cache that others can fill, filled with the largest entries that input allows, in a process with a small heap: it
 * goes on, and holds what was accounted for.
 */
import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { cacheBounds } from '../src/foundation/memory-size.ts';
import { emptyFolder, ISSUER } from './test-engine.ts';

const HEAP_MB = 160;
const MB = 1_024 * 1_024;

const moduleOf = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);

/** What both programs begin with: the largest settings that input allows, no two of them with a string in common. */
const PRELUDE = `
  import { setImmediate as nextTurn } from 'node:timers/promises';
  const { parseCreateInput } = await import(${moduleOf('../src/api-keys/key-input.ts')});
  const { cacheBounds } = await import(${moduleOf('../src/foundation/memory-size.ts')});
  const bounds = cacheBounds();
  const heap = () => { globalThis.gc(); return process.memoryUsage().heapUsed; };
  const texts = (count, length, n) =>
    Array.from({ length: count }, (_, at) => (n + ':a' + at).padEnd(length, 'x'));
  const largest = (n) => ({
    userId: ('用户' + n).padEnd(256, '户'), name: ('名' + n).padEnd(128, '名'), description: ('d' + n).padEnd(1024, '述'),
    permissions: texts(256, 128, n), grantable: texts(256, 128, n),
    expiresIn: '1h', ipAllowlist: Array.from({ length: 64 }, (_, at) => '2001:db8:' + at.toString(16) + '::/48'),
    rateLimits: Array.from({ length: 8 }, (_, at) => ({ name: ('l' + at).padEnd(32, 'x'), limit: 1000, window: (at + 1) + 'h' })),
    quota: { limit: 1000, period: 'day' }, rotation: { every: '1d', overlap: '1h' },
    jwt: {
      algorithm: 'HS256', audience: Array.from({ length: 16 }, (_, at) => ('https://' + n + '.example/' + at).padEnd(500, 'a')),
      customClaims: { claim: ('c' + n).padEnd(3900, 'x') }, ttl: '5m',
    },
    metadata: { m: ('m' + n).padEnd(4000, 'x') },
  });
`;

/** Runs a program on a heap of {@link HEAP_MB}, and answers what it prints as JSON. */
function run(program: string, args: readonly string[] = []): Promise<Record<string, number>> {
  const flags = [`--max-old-space-size=${HEAP_MB}`, '--expose-gc', '--conditions=source', '--input-type=module'];
  const child = spawn(process.execPath, [...flags, '-e', PRELUDE + program, '--', ...args]);
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => (out += String(chunk)));
  child.stderr.on('data', (chunk) => (err += String(chunk)));
  return new Promise((resolve, reject) => {
    child.on('close', (code) =>
      code === 0 ? resolve(JSON.parse(out)) : reject(new Error(`${code}: ${err.slice(-2_000)}`)),
    );
  });
}

test('thousands of the largest keys and counters stay within their bytes, and the heap holds no more', async () => {
  const found = await run(`
    const { VerificationCache } = await import(${moduleOf('../src/verification/verification-cache.ts')});
    const { MemoryLimiter } = await import(${moduleOf('../src/rate-limit/memory/memory-limiter.ts')});
    const clock = { now: () => Date.now(), monotonicMs: () => performance.now() };
    // A clone shares no string with what it was made from.
    const settings = parseCreateInput(largest('n'), clock.now());
    const record = (n) => ({
      ...structuredClone(settings),
      id: 'key' + String(n).padStart(13, '0'), tenantId: n % 3 === 0 ? 'a' : 'b', createdAt: 0, createdBy: null,
      state: { kind: 'active' }, tokensNotBefore: null, version: 8, revision: 1, idTag: 1,
      versions: Array.from({ length: 8 }, (_, at) => ({ version: 8 - at, createdAt: n, acceptedUntil: n })),
    });
    const secrets = () => Array.from({ length: 8 }, (_, at) => ({
      version: 8 - at, keyHash: Buffer.from('k'.repeat(32)), signing: { kid: 'kid' + at, secret: Buffer.from('s'.repeat(32)) },
    }));
    let n = 0;
    const storage = {
      findToVerify: async () => {
        const made = record(n);
        return { record: made, tenant: { id: made.tenantId, name: 'n', state: 'active', createdAt: 0, revision: 1, audiences: null }, secrets: secrets() };
      },
    };
    const place = { lane: 'main', owner: 'o', account: 'a' };
    const start = heap();
    const cache = new VerificationCache({ source: storage, clock, coldReadsMax: 4, knownKeysBytesMax: bounds.knownKeysBytesMax });
    for (n = 0; n < 2500; n += 1) {
      await cache.read('key' + String(n).padStart(13, '0'), place);
      if (n % 100 === 0) await nextTurn();
    }
    const afterKeys = heap();
    const limiter = new MemoryLimiter({ clock, quotaLedger: null, bytesMax: bounds.countersBytesMax });
    let refused = 0;
    for (n = 0; n < 20000; n += 1) {
      const rules = Array.from({ length: 8 }, (_, at) => ({ name: ('l' + n + at).padEnd(32, 'x'), limit: 1e9, windowSeconds: 3600 + at }));
      try {
        limiter.decide({ tenantId: n < 15000 ? 'large' : 'small', keyId: 'k' + n, createdAt: 0, rules, quota: null, cost: 1 });
      } catch (error) {
        if (error.code !== 'limiter_unavailable') throw error;
        refused += 1;
      }
    }
    const small = limiter.decide({ tenantId: 'another', keyId: 'other', createdAt: 0, rules: [{ name: 'l', limit: 5, windowSeconds: 60 }], quota: null, cost: 1 });
    const afterCounters = heap();
    console.log(JSON.stringify({
      keysAccounted: cache.knownKeysBytes, keysTaken: afterKeys - start,
      countersAccounted: limiter.bytesTracked, countersTaken: afterCounters - afterKeys,
      refused, smallAdmitted: Number(small.admitted), heapLimitBytes: bounds.knownKeysBytesMax, rss: process.memoryUsage().rss,
      countersMax: bounds.countersBytesMax,
    }));
  `);
  const { keysAccounted = 0, keysTaken = 0, countersAccounted = 0, countersTaken = 0, heapLimitBytes = 0 } = found;
  // It was filled, and not beyond its bound; and what is accounted is what is taken, or more.
  expect(keysAccounted).toBeGreaterThan(heapLimitBytes * 0.9);
  expect(keysAccounted).toBeLessThanOrEqual(heapLimitBytes);
  expect(keysTaken).toBeLessThan(keysAccounted * 1.1);
  expect(countersAccounted).toBeLessThanOrEqual(found['countersMax'] ?? 0);
  expect(countersAccounted).toBeGreaterThan((found['countersMax'] ?? 0) * 0.7);
  expect(countersTaken).toBeLessThan(countersAccounted * 1.1);
  expect(found['refused']).toBeGreaterThan(0);
  expect(found['smallAdmitted']).toBe(1);
  expect(found['rss']).toBeLessThan((HEAP_MB + 160) * MB);
}, 240_000);

test('a service that is sent thousands of the longest tokens stays within its memory', async () => {
  const found = await run(
    `
    const { createPantheonAuth } = await import(${moduleOf('../src/pantheon-auth.ts')});
    const { mintKeyToken } = await import(${moduleOf('../src/jwt/holder-token.ts')});
    const issuer = ${JSON.stringify(ISSUER)};
    const auth = await createPantheonAuth({ dataDir: process.argv[1], issuer });
    const { key } = await auth.keys.create({
      userId: 'u', name: 'n', permissions: texts(40, 128, 'p'), jwt: { algorithm: 'HS256', audience: [issuer] },
    });
    let valid = 0;
    await nextTurn();
    const start = heap();
    for (let n = 0; n < 4000; n += 1) {
      const token = mintKeyToken({ key, issuer, audience: [issuer], permissions: texts(40, 128, 'p' + n) });
      if ((await auth.tokens.verify({ token })).valid) valid += 1;
      if (n % 100 === 0) await nextTurn();
    }
    console.log(JSON.stringify({ valid, taken: heap() - start, max: bounds.seenTokensBytesMax, rss: process.memoryUsage().rss }));
    await auth.close();
  `,
    [emptyFolder()],
  );
  const { taken = 0, max = 0 } = found;
  expect(found['valid']).toBe(4_000);
  expect(taken).toBeGreaterThan(max / 4);
  expect(taken).toBeLessThan(max * 1.1);
  expect(found['rss']).toBeLessThan((HEAP_MB + 160) * MB);
}, 240_000);

test('cached tokens keep no old state of their key in memory', async () => {
  const { taken = 0, max = 0 } = await run(
    `
    const { createPantheonAuth } = await import(${moduleOf('../src/pantheon-auth.ts')});
    const { mintKeyToken } = await import(${moduleOf('../src/jwt/holder-token.ts')});
    const issuer = ${JSON.stringify(ISSUER)};
    const auth = await createPantheonAuth({ dataDir: process.argv[1], issuer });
    const jwt = { algorithm: 'HS256', audience: [issuer] };
    const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'n', permissions: ['p:x'], jwt });
    const start = heap();
    for (let n = 0; n < 800; n += 1) {
      const customClaims = { claim: ('c' + n).padEnd(3900, 'x') };
      await auth.keys.update(apiKey.id, { permissions: ['p:x', ...texts(255, 128, 'p' + n)], jwt: { ...jwt, customClaims } });
      const token = mintKeyToken({ key, issuer, audience: [issuer], permissions: ['p:x'] });
      if (!(await auth.tokens.verify({ token })).valid) throw new Error('not valid');
    }
    console.log(JSON.stringify({ taken: heap() - start, max: bounds.seenTokensBytesMax }));
    await auth.close();
  `,
    [emptyFolder()],
  );
  // Kept, it would be 37 kB of each token.
  expect(taken).toBeLessThan(max);
}, 240_000);

test('the caches take a share of the available heap unless their size is set', () => {
  const sum = (bounds: object): number => Object.values(bounds).reduce((all, one) => all + one, 0);
  expect(sum(cacheBounds())).toBeLessThanOrEqual(512 * MB);
  expect(sum(cacheBounds(100 * MB))).toBeLessThanOrEqual(100 * MB);
  expect(sum(cacheBounds(100 * MB))).toBeGreaterThan(90 * MB);
});
