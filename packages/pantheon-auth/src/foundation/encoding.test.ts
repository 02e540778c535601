import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  BASE62_ALPHABET,
  canonicalJson,
  decodeBase62,
  decodeBase64url,
  encodeBase62,
  isPlainObject,
  isSameJson,
  lengthPrefixed,
} from './encoding.ts';

/** Digits of base 62 that always hold a value of so many bytes: ⌈8 n / log₂ 62⌉. */
const widthOf = (byteLength: number): number => Math.ceil((byteLength * 8) / Math.log2(62));

describe('base 62', () => {
  test.each([
    ['00', 2, '00'],
    ['09', 1, '9'],
    ['0a', 1, 'A'],
    ['23', 1, 'Z'],
    ['24', 1, 'a'],
    ['3d', 1, 'z'],
    ['3e', 2, '10'],
    ['cbf43926', 6, '3jZRME'],
    ['ffffffff', 6, '4gfFC3'],
    ['ff'.repeat(32), 43, 'yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1'],
  ])('%s in %i characters is %s', (hex, width, text) => {
    const bytes = Buffer.from(hex, 'hex');
    expect(encodeBase62(bytes, width)).toBe(text);
    expect(decodeBase62(text, bytes.length)).toEqual(bytes);
  });

  test('sorts like its numbers', () => {
    expect([...BASE62_ALPHABET].sort().join('')).toBe(BASE62_ALPHABET);
  });

  test('encoded bytes are decoded to the same bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 48 }), (bytes) => {
        const text = encodeBase62(bytes, widthOf(bytes.length));
        expect(text).toHaveLength(widthOf(bytes.length));
        expect(decodeBase62(text, bytes.length)).toEqual(Buffer.from(bytes));
      }),
    );
  });

  test('an accepted text is encoded again to the same text', () => {
    const text = fc.string({ unit: fc.constantFrom(...BASE62_ALPHABET), minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 40 }), (digits, byteLength) => {
        const bytes = decodeBase62(digits, byteLength);
        if (bytes !== null) expect(encodeBase62(bytes, digits.length)).toBe(digits);
      }),
    );
  });

  test.each(['a-b', 'a_b', ' a', 'a\n', 'é', '漢', '\u0000', '\ud800'])('%j is refused', (text) => {
    expect(decodeBase62(text, 16)).toBeNull();
  });

  test('a number that needs more bytes is refused', () => {
    expect(decodeBase62('47', 1)).toEqual(Buffer.of(255));
    expect(decodeBase62('48', 1)).toBeNull();
  });

  test('a width that is too small is an internal error', () => {
    expect(() => encodeBase62(Uint8Array.of(255), 1)).toThrow('Invariant broken');
  });
});

describe('base64url', () => {
  test('encoded bytes are decoded to the same bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(decodeBase64url(Buffer.from(bytes).toString('base64url'))).toEqual(Buffer.from(bytes));
      }),
    );
  });

  test('one value has one text: an accepted text is encoded again to the same text', () => {
    const text = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'ABab09-_+/= \n') }));
    fc.assert(
      fc.property(text, (given) => {
        const bytes = decodeBase64url(given);
        if (bytes !== null) expect(bytes.toString('base64url')).toBe(given);
      }),
    );
  });

  test.each(['AA==', 'AB', 'A', 'AA A', 'AA\n', '++++', '////', 'AAé', 'AA.AA'])('%j is refused', (text) => {
    expect(decodeBase64url(text)).toBeNull();
  });
});

describe('canonical JSON (RFC 8785)', () => {
  test('the example of section 3.2.2', () => {
    const value: unknown = JSON.parse(`{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\"\\/",
      "literals": [null, true, false]
    }`);
    expect(canonicalJson(value as object)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  test('members are sorted by UTF-16 code units (section 3.2.3)', () => {
    const names = ['\u20ac', '\r', '\ufb33', '1', '\ud83d\ude00', '\u0080', '\u00f6'];
    const text = canonicalJson(Object.fromEntries(names.map((name) => [name, 0])));
    const sorted = ['\r', '1', '\u0080', '\u00f6', '\u20ac', '\ud83d\ude00', '\ufb33'];
    expect(Object.keys(JSON.parse(text) as object).filter((name) => name !== '1')).toEqual(
      sorted.filter((name) => name !== '1'),
    );
    expect(text.indexOf('"1"')).toBeGreaterThan(text.indexOf('"\\r"'));
    expect(text.indexOf('"1"')).toBeLessThan(text.indexOf('"\u0080"'));
  });

  /** Appendix B: the bits of a double, and how it is written. */
  test.each([
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555553', '333333333.3333332'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ])('the double %s is written %s', (bits, text) => {
    expect(canonicalJson([Buffer.from(bits, 'hex').readDoubleBE()])).toBe(`[${text}]`);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('%d has no canonical form', (number) => {
    expect(() => canonicalJson([number])).toThrow();
  });

  test('a member that is undefined is left out', () => {
    expect(canonicalJson({ b: 1, a: undefined })).toBe('{"b":1}');
  });

  test('a value that JSON cannot represent is refused', () => {
    expect(() => canonicalJson((() => 1) as object)).toThrow();
  });

  test('one value has one text, in whatever order it was built, and the text parses to that value', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true }), (value) => {
        const given = JSON.parse(JSON.stringify(value)) as object;
        const reversed = Object.fromEntries(Object.entries(given).reverse());
        expect(canonicalJson(reversed)).toBe(canonicalJson(given));
        expect(JSON.parse(canonicalJson(given))).toEqual(given);
      }),
    );
  });
});

describe('length-prefixed lists', () => {
  /** Characters and bytes mean the same here: a text is its UTF-8. Small alphabets make lists that nearly meet. */
  const part = fc.oneof(
    fc.string({ unit: fc.constantFrom('a', '\u0000', 'é'), maxLength: 3 }),
    fc.string({ unit: 'binary' }),
  );
  const list = fc.array(part, { maxLength: 4 });

  test('no two different lists give the same bytes', () => {
    fc.assert(
      fc.property(list, list, (one, other) => {
        const isSame = JSON.stringify(one) === JSON.stringify(other);
        expect(lengthPrefixed(one).equals(lengthPrefixed(other))).toBe(isSame);
      }),
    );
  });

  test('the list can be decoded from its bytes', () => {
    fc.assert(
      fc.property(list, (parts) => {
        const bytes = lengthPrefixed(parts);
        const read: string[] = [];
        for (let at = 0; at < bytes.length; ) {
          const end = at + 4 + bytes.readUInt32BE(at);
          read.push(bytes.toString('utf8', at + 4, end));
          at = end;
        }
        expect(read).toEqual(parts);
      }),
    );
  });

  test.each([
    [[], ''],
    [[''], '00000000'],
    [['a', 'bc'], '0000000161000000026263'],
    [['é', Uint8Array.of(0xff)], '00000002c3a900000001ff'],
  ])('%j', (parts, hex) => {
    expect(lengthPrefixed(parts).toString('hex')).toBe(hex);
  });
});

test('an object of members only is plain, and what JSON would write otherwise is not', () => {
  for (const plain of [{}, { a: 1 }, Object.create(null)]) expect(isPlainObject(plain)).toBe(true);
  for (const other of [null, 'a', 1, [], new Date(0), new Map(), Buffer.alloc(1), () => {}])
    expect(isPlainObject(other)).toBe(false);
});

test('two values are the same JSON whatever the order of their members', () => {
  expect(isSameJson({ a: 1, b: [{ c: 2, d: null }] }, { b: [{ d: null, c: 2 }], a: 1 })).toBe(true);
  expect(isSameJson([1, 2], [2, 1])).toBe(false);
  expect(isSameJson(undefined, null)).toBe(false);
  expect(isSameJson(undefined, undefined)).toBe(true);
});
