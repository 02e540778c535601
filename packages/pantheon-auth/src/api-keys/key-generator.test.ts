import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { BASE62_ALPHABET } from '../foundation/encoding.ts';
import { ID_LENGTH } from '../foundation/ids.ts';
import { anyEnvironment, anyId } from '../testing/arbitraries.ts';
import type { APIKey } from './api-key.ts';
import {
  APIKeyGenerator,
  formatKey,
  generatedFrom,
  generateKey,
  hashKey,
  KEY_LENGTH_MAX,
  type ParsedKey,
  parseKey,
  parseKeyPrefix,
  SECRET_BYTES,
  secretBytes,
} from './key-generator.ts';

/** Base 62 by its definition, as a second opinion. */
function base62(value: bigint, width: number): string {
  const digits: string[] = [];
  for (let rest = value; digits.length < width; rest /= 62n) digits.unshift(BASE62_ALPHABET.charAt(Number(rest % 62n)));
  return digits.join('');
}
const sign = (body: string): string => body + base62(BigInt(crc32(body)), 6);

const anyBrand = fc.stringMatching(/^[a-z][a-z0-9]{1,15}$/);
const anySecret = fc.bigInt({ min: 0n, max: 2n ** 256n - 1n }).map((value) => base62(value, 43));
const anyParsed = fc.record<ParsedKey>({
  keyPrefix: anyBrand,
  environment: anyEnvironment,
  id: anyId,
  secret: anySecret,
});

describe('parsing and formatting a key', () => {
  test('a formatted key is parsed to the same parts', () => {
    fc.assert(
      fc.property(anyParsed, (parsed) => {
        const key = formatKey(parsed);
        expect(parseKey(key, parsed.keyPrefix)).toEqual(parsed);
        expect(key.length).toBeLessThanOrEqual(KEY_LENGTH_MAX);
        expect(key).toMatch(/^\w+$/);
      }),
    );
  });

  test('an accepted text is formatted again to the same text', () => {
    const digits = fc.bigInt({ min: 0n, max: 62n ** 43n - 1n });
    fc.assert(
      fc.property(anyEnvironment, anyId, digits, (environment, id, value) => {
        const key = sign(`pan_${environment}_${id}${base62(value, 43)}`);
        const parsed = parseKey(key);
        // A number above 2^256 - 1 would be a second way to write 32 bytes, or no way at all.
        if (value >= 2n ** 256n) expect(parsed).toBeNull();
        else expect(parsed && formatKey(parsed)).toBe(key);
      }),
      {
        examples: [
          ['live', '0'.repeat(16), 2n ** 256n - 1n],
          ['live', '0'.repeat(16), 2n ** 256n],
        ],
      },
    );
  });

  test('any text is refused, or formatted again to the same text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^pan_(live|test)_[0-9A-Za-z]{65}$/)), (text) => {
        const parsed = parseKey(text);
        expect(parsed === null || formatKey(parsed) === text).toBe(true);
      }),
    );
  });

  test('one changed character is always detected: CRC-32 detects every burst error of up to 32 bits', () => {
    const anyCharacter = fc.oneof(
      fc.constantFrom(...BASE62_ALPHABET, '_', '-'),
      fc.string({ minLength: 1, maxLength: 1 }),
    );
    fc.assert(
      fc.property(anyParsed, fc.nat(), anyCharacter, (parsed, place, character) => {
        const key = formatKey(parsed);
        const at = place % key.length;
        const changed = key.slice(0, at) + character + key.slice(at + 1);
        expect(parseKey(changed, parsed.keyPrefix) === null).toBe(changed !== key);
      }),
      { numRuns: 1_000 },
    );
  });

  test('two swapped neighbours, a missing and an added character are always detected', () => {
    fc.assert(
      fc.property(anyParsed, fc.nat(), (parsed, place) => {
        const key = formatKey(parsed);
        const at = place % (key.length - 1);
        const swapped = key.slice(0, at) + key.charAt(at + 1) + key.charAt(at) + key.slice(at + 2);
        expect(parseKey(swapped, parsed.keyPrefix) === null).toBe(swapped !== key);
        for (const text of [key.slice(0, at), key.slice(at + 1), `${key}0`, ` ${key}`, `${key}\n`]) {
          expect(parseKey(text, parsed.keyPrefix)).toBeNull();
        }
      }),
    );
  });

  test('a key with another prefix is refused', () => {
    const key = formatKey({ keyPrefix: 'acme', environment: 'live', id: '0'.repeat(16), secret: '0'.repeat(43) });
    expect(parseKey(key)).toBeNull();
    expect(parseKey(key, 'acm')).toBeNull();
    expect(parseKey(key, 'acmd')).toBeNull();
    expect(parseKey(key, 'acme')).not.toBeNull();
  });

  test.each<[string, Partial<Record<keyof ParsedKey, string>>]>([
    ['keyPrefix', { keyPrefix: 'Pan' }],
    ['environment', { environment: 'prod' }],
    ['id', { id: 'short' }],
    ['secret that is too short', { secret: '0'.repeat(42) }],
    ['secret that is too large', { secret: base62(2n ** 256n, 43) }],
    ['secret of other characters', { secret: '-'.repeat(43) }],
  ])('a %s in the wrong form is refused when a key is formatted', (_what, changes) => {
    const sound = { keyPrefix: 'pan', environment: 'live', id: '0'.repeat(16), secret: '0'.repeat(43) };
    expect(() => formatKey({ ...sound, ...changes } as ParsedKey)).toThrow('Invariant broken');
  });

  test('the bytes of a secret are the number that its characters encode', () => {
    const parsed: ParsedKey = {
      keyPrefix: 'pan',
      environment: 'live',
      id: '0'.repeat(16),
      secret: `${'0'.repeat(41)}48`,
    };
    expect(secretBytes(parsed)).toEqual(Buffer.concat([Buffer.alloc(30), Buffer.of(1, 0)]));
    expect(() => secretBytes({ ...parsed, secret: 'z'.repeat(43) })).toThrow('Invariant broken');
  });
});

describe('generating', () => {
  afterEach(() => vi.restoreAllMocks());

  test('gives a key that can be parsed, with its hash and its secret', () => {
    const made = generateKey({ keyPrefix: 'acme', environment: 'test' });
    const parsed = parseKey(made.key, 'acme');
    expect(parsed).toMatchObject({ keyPrefix: 'acme', environment: 'test', id: made.id });
    expect(parsed && secretBytes(parsed)).toEqual(made.secret);
    expect(made.keyHash).toEqual(createHash('sha256').update(made.key).digest());
    expect(made.secret).toHaveLength(SECRET_BYTES);
  });

  test('a string that was generated before gives the same parts again, and any other string null', () => {
    const made = generateKey({ keyPrefix: 'acme', environment: 'test' });
    expect(generatedFrom(made.key, 'acme')).toEqual(made);
    expect(generatedFrom(made.key, 'pan')).toBeNull();
  });

  test('another version keeps the id and changes everything else', () => {
    const first = generateKey({ keyPrefix: 'pan', environment: 'live' });
    const second = generateKey({ keyPrefix: 'pan', environment: 'live', id: first.id });
    expect(second.id).toBe(first.id);
    expect(second.secret).not.toEqual(first.secret);
  });

  test('asks neither Math.random nor a clock: with both stopped, keys still differ', () => {
    const asked = [vi.spyOn(Math, 'random'), vi.spyOn(Date, 'now'), vi.spyOn(performance, 'now')];
    for (const source of asked) source.mockReturnValue(0);
    const keys = Array.from({ length: 100 }, () => generateKey({ keyPrefix: 'pan', environment: 'live' }));
    for (const source of asked) expect(source).not.toHaveBeenCalled();
    expect(new Set(keys.map(({ id }) => id)).size).toBe(100);
    expect(new Set(keys.map(({ secret }) => secret.toString('hex'))).size).toBe(100);
  });

  test('a million keys: no two alike, and no digit more likely than it should be at any position', {
    timeout: 120_000,
  }, () => {
    const KEYS = 1_000_000;
    const START = 'pan_live_'.length;
    const PLACES = ID_LENGTH + 43 + 6;
    const counts = new Uint32Array(PLACES * 128);
    const ids = new Set<string>();
    const secrets = new Set<string>();
    for (let made = 0; made < KEYS; made += 1) {
      const { id, key, secret } = generateKey({ keyPrefix: 'pan', environment: 'live' });
      ids.add(id);
      // 128 of its 256 bits: enough that two alike would mean a broken generator.
      secrets.add(secret.toString('latin1', 0, 16));
      for (let place = 0; place < PLACES; place += 1) {
        const at = place * 128 + key.charCodeAt(START + place);
        counts[at] = (counts[at] ?? 0) + 1;
      }
    }
    expect([ids.size, secrets.size]).toEqual([KEYS, KEYS]);
    for (let place = 0; place < PLACES; place += 1) {
      const shares = sharesAt(place);
      const found = [...BASE62_ALPHABET].map((digit) => counts[place * 128 + digit.charCodeAt(0)] ?? 0);
      expect(
        chiSquare(
          found,
          shares.map((share) => share * KEYS),
        ),
      ).toBeLessThan(chiSquareMax(shares));
    }
  });
});

/** How often each digit should stand there. A number below `size` reaches its first digits only in part. */
function sharesAt(place: number): number[] {
  if (place < ID_LENGTH) return sharesOf(62n ** 16n, 15 - place);
  if (place < ID_LENGTH + 43) return sharesOf(2n ** 256n, 42 - (place - ID_LENGTH));
  return sharesOf(2n ** 32n, 5 - (place - ID_LENGTH - 43));
}

/** The share of the numbers below `size` that have each digit at 62^power, exactly. */
function sharesOf(size: bigint, power: number): number[] {
  const weight = 62n ** BigInt(power);
  const [turns, rest] = [size / (62n * weight), size % (62n * weight)];
  return Array.from({ length: 62 }, (_, digit) => {
    const over = rest - BigInt(digit) * weight;
    const count = turns * weight + (over < 0n ? 0n : over < weight ? over : weight);
    return Number((count * 10n ** 15n) / size) / 1e15;
  });
}

/** Infinite when a digit stands where it never can. */
function chiSquare(found: readonly number[], expected: readonly number[]): number {
  return found.reduce((sum, count, digit) => {
    const should = expected[digit] ?? 0;
    return sum + (count === 0 && should === 0 ? 0 : (count - should) ** 2 / should);
  }, 0);
}

/**
 * What chi-square passes with p = 10⁻⁹ (Wilson and Hilferty's approximation, 6 standard deviations). With p = 0.001 in
 * each of 65 places one run in sixteen would fail for nothing. A digit that is 2 % too likely in one place still fails.
 */
function chiSquareMax(shares: readonly number[]): number {
  const degrees = shares.filter((share) => share > 0).length - 1;
  const spread = 2 / (9 * degrees);
  return degrees * (1 - spread + 6 * Math.sqrt(spread)) ** 3;
}

describe('APIKeyGenerator', () => {
  test('gives a live key of the default prefix and the SHA-256 of the string', () => {
    const { key, keyHash } = new APIKeyGenerator().generateKey();
    expect(parseKey(key)).toMatchObject({ keyPrefix: 'pan', environment: 'live' });
    expect(keyHash).toBe(createHash('sha256').update(key).digest('hex'));
    expect(keyHash).toBe(hashKey(key).toString('hex'));
  });

  test('takes a prefix and an environment', () => {
    const { key } = new APIKeyGenerator({ keyPrefix: 'acme', environment: 'test' }).generateKey();
    expect(parseKey(key, 'acme')).toMatchObject({ environment: 'test' });
  });

  test.each(['', 'a', 'Pan', '1pan', 'pan_', 'pän', 'x'.repeat(17)])(
    'the prefix %j is refused, with the name of the option',
    (keyPrefix) => {
      const refusal = expect.objectContaining({ code: 'invalid_setting', field: 'keyPrefix' });
      expect(() => new APIKeyGenerator({ keyPrefix })).toThrow(refusal);
      expect(() => parseKeyPrefix(keyPrefix)).toThrow(refusal);
    },
  );

  const apiKey = { id: '0123456789abcdef' } as APIKey;
  const metadata = { keyId: apiKey.id, algorithm: 'HS256', issuer: 'i', audience: [], customClaims: {} } as const;
  const asked = { ...metadata, audience: [] };

  test('signs no token without a running instance', () => {
    const refusal = expect.objectContaining({ code: 'signing_secret_unavailable' });
    expect(() => new APIKeyGenerator().generateJWTFromKey(apiKey, asked)).toThrow(refusal);
  });

  test('passes tokens to its signer, with the key or without', () => {
    const signForKey = vi.fn(() => 'token');
    const generator = new APIKeyGenerator({ signer: { signForKey } });
    expect(generator.generateJWTFromKey(apiKey, asked)).toBe('token');
    expect(generator.generateJWTFromKey(apiKey, asked, 'key')).toBe('token');
    expect(signForKey.mock.calls).toEqual([
      [apiKey, asked, null],
      [apiKey, asked, 'key'],
    ]);
  });
});
