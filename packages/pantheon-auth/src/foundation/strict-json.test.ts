import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isJsonObject, parseStrictJson } from './strict-json.ts';

const bounds = { depthMax: 8 };
const reasonOf = (text: string, depthMax = 8): string => {
  const result = parseStrictJson(text, { depthMax });
  return result.ok ? 'ok' : result.reason;
};

describe('a text with one meaning is parsed as JSON.parse does', () => {
  test('every JSON value is parsed to the same value', () => {
    const json = fc.jsonValue({ maxDepth: 6, noUnicodeString: false });
    fc.assert(
      fc.property(json, fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        const forbidden = /"(__proto__|constructor|prototype)":/.test(text.replaceAll(/\s/g, ''));
        fc.pre(text.isWellFormed() && !/\\ud[89a-f]/.test(text) && !forbidden);
        expect(parseStrictJson(text, { depthMax: 16 })).toEqual({ ok: true, value: JSON.parse(text) });
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    'null',
    'true',
    '0',
    '-1.5e3',
    '""',
    '"a:b,{"',
    '[]',
    '{}',
    ' { "a" : [ 1 , { "b" : "\\"}" } ] } ',
    '{"":{"":1}}',
  ])('%s is accepted', (text) => {
    expect(parseStrictJson(text, bounds)).toEqual({ ok: true, value: JSON.parse(text) });
  });

  test('the same name in different objects is no duplicate', () => {
    expect(reasonOf('{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}')).toBe('ok');
  });

  test('text inside strings that looks like members does not count', () => {
    expect(reasonOf('{"a":"\\"a\\":1,\\"a\\":2","b":"{:[:{"}')).toBe('ok');
    expect(reasonOf('{"a\\\\":1,"a":2,"a\\"":3}')).toBe('ok');
  });
});

describe('a text with two meanings is refused', () => {
  test.each([
    ['{"a":1,"a":1}', 'a'],
    ['{"a":1,"\\u0061":2}', 'a'],
    ['{"\\u0041":1,"b":2,"A":3}', 'A'],
    ['[{"x":{"b":1,"c":[0,{"d":1,"d":2}]}}]', '[0].x.c[1].d'],
    ['[1,[2,3],{"a" \t\n\r: 1, "a" :2}]', '[2].a'],
    ['{"a":{"b":1,"c":2},"a":3}', 'a'],
    ['{"":1,"":2}', '?'],
    ['{"é":1,"é":2}', '?'],
    ['{"/":1,"\\/":2}', '?'],
    ['{"a":["b","b",{"b":"b"}],"b":1,"b":2}', 'b'],
    [`{"${'k'.repeat(33)}":1,"${'k'.repeat(33)}":1}`, '?'],
  ])('the duplicate in %s is found, and the error names it', (text, at) => {
    expect(parseStrictJson(text, bounds)).toEqual({ ok: false, reason: 'duplicate_member', at });
  });

  test('a duplicate is found at any position', () => {
    const name = fc.constantFrom('a', 'b', 'exp', '1', '01', 'ü', ' ', '"', '\\', ':');
    const tree = fc.letrec<{ node: unknown }>((tie) => ({
      node: fc.oneof(
        { maxDepth: 4, withCrossShrink: true },
        fc.oneof(fc.integer(), fc.constantFrom('x', '{"a":1}', null)),
        fc.array(tie('node'), { maxLength: 3 }),
        fc.dictionary(name, tie('node'), { maxKeys: 4, noNullPrototype: true }),
      ),
    })).node;
    fc.assert(
      fc.property(tree, name, tree, tree, (around, repeated, first, second) => {
        const [a, b, c] = [around, first, second].map((value) => JSON.stringify(value));
        const text = `[${a},{${JSON.stringify(repeated)}:${b},"other":${c},${JSON.stringify(repeated)}:${c}}]`;
        expect(parseStrictJson(text, { depthMax: 32 })).toMatchObject({ ok: false, reason: 'duplicate_member' });
      }),
    );
  });

  test.each(['__proto__', 'constructor', 'prototype', '__pro\\u0074o__'])(
    'the member %s is refused at any depth',
    (name) => {
      expect(parseStrictJson(`{"${name}":1}`, bounds)).toMatchObject({ ok: false, reason: 'forbidden_member' });
      const nested = `{"a":[0,{"b":{"x":1,"${name}":{}}}]}`;
      const at = `a[1].b.${JSON.parse(`"${name}"`)}`;
      expect(parseStrictJson(nested, bounds)).toEqual({ ok: false, reason: 'forbidden_member', at });
      expect(({} as Record<string, unknown>)['x']).toBeUndefined();
    },
  );

  test('a forbidden name is only refused as a name', () => {
    expect(reasonOf('{"a":"__proto__","b":["constructor"]}')).toBe('ok');
  });

  test('a forbidden member that a duplicate hides is refused too', () => {
    expect(reasonOf('{"a":{"__proto__":1},"a":2}')).toBe('duplicate_member');
  });

  test('a member name too long to be a field is not repeated: it may be a secret', () => {
    const text = `{"${'S'.repeat(43)}":1,"${'S'.repeat(43)}":2}`;
    expect(JSON.stringify(parseStrictJson(text, bounds))).not.toContain('SS');
  });
});

describe('a value that cannot be written again is refused', () => {
  test.each(['"\\ud800"', '["\\udc00x"]', '{"a":"\\ud83d"}', '{"\\ud800":1}', '"\ud800"'])('%s is refused', (text) => {
    expect(reasonOf(text)).toBe('syntax');
  });

  test.each([
    ['1e400', ''],
    ['[-1e999]', '[0]'],
    ['{"a":1e309}', 'a'],
    ['9007199254740993', ''],
    ['{"a":[1,{"b":9007199254740993,"c":1}]}', 'a[1].b'],
    ['{"a":1e-400}', 'a'],
    ['{"a":"1e-400","b":-9223372036854775807}', 'b'],
    ['[0.1,3.14159265358979323846]', '[1]'],
    [`{"${'S'.repeat(43)}":1e400}`, '?'],
  ])('%s: a number that would change is refused, and the error names its path', (text, at) => {
    expect(parseStrictJson(text, bounds)).toEqual({ ok: false, reason: 'inexact_number', at });
  });

  test.each(['{"a":"9007199254740993"}', '[9007199254740991,-1,0.5,1e3,1E-7]', '"1e400"', '{"1e400":1}'])(
    '%s: a number that does not change, and a text that looks like one, are accepted',
    (text) => {
      expect(reasonOf(text)).toBe('ok');
    },
  );

  test('a text that is not JSON is refused as such, and not as a number that would change', () => {
    for (const text of ['1e400.5', '{"a":9007199254740993', '-', '1e', '01e400', '9007199254740993x'])
      expect(reasonOf(text)).toBe('syntax');
  });

  test('a number of 64 KiB is parsed in a moment', () => {
    for (const long of [
      '9'.repeat(65_536),
      `0.${'0'.repeat(65_000)}1`,
      `1${'0'.repeat(65_000)}e-65000`,
      '1.'.repeat(32_000),
    ])
      expect(['inexact_number', 'syntax', 'ok']).toContain(reasonOf(long));
  });

  test('a pair of surrogates is accepted', () => {
    expect(reasonOf('{"\\ud83d\\ude00":"\\ud83d\\ude00"}')).toBe('ok');
  });
});

describe('a bound is checked before any work that could exceed it', () => {
  test.each([
    ['[]', 0, 'depth'],
    ['1', 0, 'ok'],
    ['[[[]]]', 3, 'ok'],
    ['[[[]]]', 2, 'depth'],
    ['{"a":{"b":{}}}', 3, 'ok'],
    ['{"a":{"b":[]}}', 2, 'depth'],
    ['[[],[],[[]]]', 3, 'ok'],
    ['"[[[[[[["', 0, 'ok'],
  ])('%s within a depth of %i: %s', (text, depthMax, expected) => {
    expect(reasonOf(text, depthMax)).toBe(expected);
  });

  test.each(['[', '{"a":', '[{"a":', ']', '{'])('10⁵ times %j is refused without a stack overflow', (piece) => {
    const expected = piece === ']' ? 'syntax' : 'depth';
    expect(reasonOf(piece.repeat(100_000))).toBe(expected);
  });

  test('10⁵ levels are parsed if the caller allows them', () => {
    expect(reasonOf('['.repeat(100_000) + ']'.repeat(100_000), 100_000)).toBe('ok');
    const nested = `${'{"a":'.repeat(100_000)}{"b":1,"b":2}${'}'.repeat(100_000)}`;
    expect(reasonOf(nested, 100_001)).toBe('duplicate_member');
  });
});

test.each([
  '',
  ' ',
  '{',
  '{"a"}',
  '{"a":}',
  '{a:1}',
  "{'a':1}",
  '{"a":1,}',
  '[1,]',
  '01',
  'NaN',
  '\ufeff{}',
  '"',
  '"\\',
  '"\n"',
  '{}{}',
  '{} x',
])('%j is refused as JSON', (text) => {
  expect(parseStrictJson(text, bounds)).toEqual({ ok: false, reason: 'syntax' });
});

test('only an object is an object', () => {
  expect([{}, { a: 1 }, [], null, 'x', 1, true, undefined].map(isJsonObject)).toEqual([
    true,
    true,
    false,
    false,
    false,
    false,
    false,
    false,
  ]);
});
