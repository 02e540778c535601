import { expect, test, vi } from 'vitest';
import {
  exposedKeyPattern,
  findCredential,
  holdsCredential,
  keyStringsIn,
  WHOLE_TOKEN,
  withoutCredentials,
} from './credential-text.ts';

const KEY = `pan_live_${'0'.repeat(16)}${'aB3'.repeat(14)}x${'C'.repeat(6)}`;
const TOKEN = `eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1In0.${'s'.repeat(86)}`;

test.each([
  [{ a: KEY }, 'a', [KEY]],
  [{ a: `(${KEY})`, b: KEY }, 'a', [KEY]],
  [{ a: { b: [1, null, `${KEY} ${KEY.replace('live', 'test')}`] } }, 'a.b[2]', [KEY, KEY.replace('live', 'test')]],
  [{ [KEY]: 1 }, '?', [KEY]],
  [{ a: { [KEY]: { b: 1 } } }, 'a.?', [KEY]],
  [{ ['x'.repeat(99)]: KEY }, '?', [KEY]],
  [{ a: TOKEN }, 'a', []],
  [{ a: `Bearer ${TOKEN}` }, 'a', []],
  [{ a: KEY.slice(0, 60) }, 'a', []],
  [[KEY], '[0]', [KEY]],
] as const)('%j: %s', (value, field, keys) => {
  expect(findCredential(value)).toEqual({ field, keys });
});

test.each([
  {},
  { a: KEY.slice(0, 25) },
  { a: KEY.slice(0, 40) },
  { a: 'my_test_environment', b: null, c: [undefined, 1, true, () => KEY] },
  { a: 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1In0' },
  { a: '_live_'.repeat(1_000) },
])('no credential is found in %j', (value) => {
  expect(findCredential(value)).toBeNull();
});

test('the shortest texts that are like a credential are found, as values and as names', () => {
  for (const text of [`a_live_${'0'.repeat(32)}`, `eyJ${'a'.repeat(8)}.eyJ${'b'.repeat(8)}.${'s'.repeat(16)}`]) {
    expect(findCredential({ a: text })).toEqual({ field: 'a', keys: [] });
    expect(findCredential({ [text]: 1 })).toEqual({ field: '?', keys: [] });
    expect(findCredential({ a: text.slice(1) })).toBeNull();
  }
});

test('thousands of members that are too short for a credential are not searched', () => {
  const search = vi.spyOn(RegExp.prototype, 'test');
  const members = Object.fromEntries(Array.from({ length: 8_000 }, (_, n) => [`member-${n}`, `value ${n}`]));
  const found = findCredential({ ...members, last: [KEY] });
  const searches = search.mock.calls.length;
  search.mockRestore();
  expect(found).toEqual({ field: 'last[0]', keys: [KEY] });
  expect(searches).toBeLessThan(10);
});

test('a value without end, and a text that is made to be slow, take a moment only', () => {
  const circle: Record<string, unknown> = {};
  circle['self'] = circle;
  expect(findCredential(circle)).toBeNull();
  for (const slow of [
    'a'.repeat(100_000),
    'a_live_'.repeat(15_000),
    'eyJ'.repeat(30_000),
    '%5f'.repeat(30_000),
    'eyJaaaaaaaa.'.repeat(9_000),
  ])
    expect(findCredential({ slow })).toBeNull();
});

test('a slow text for the one measure is none for the other', () => {
  for (const slow of ['a'.repeat(100_000), 'a_live_'.repeat(15_000), 'eyJ'.repeat(30_000), '%5f'.repeat(30_000)])
    expect(holdsCredential(slow)).toBe(false);
});

test('the hint of a key is public, and one character of its secret is not', () => {
  expect(holdsCredential(`/?q=${KEY.slice(0, 25)}`)).toBe(false);
  expect(holdsCredential(`/?q=${KEY.slice(0, 26)}`)).toBe(true);
  expect(holdsCredential(`/?q=${KEY.slice(0, 26).toUpperCase()}`)).toBe(true);
});

test('a token is found whole and cut off, and a word that only begins like one is not', () => {
  for (const text of [TOKEN, TOKEN.slice(0, 30), `Bearer ${TOKEN}`]) expect(holdsCredential(text)).toBe(true);
  for (const text of ['eyJhbGciOiJFUzI1NiJ9', 'heyJude12345.mp3', 'eyJ.a.b']) expect(holdsCredential(text)).toBe(false);
});

test('percent-encoded credentials are found, with invalid escapes beside them', () => {
  const url = `/${KEY.replaceAll('_', '%5F')}?x=%zz%`;
  expect(holdsCredential(url)).toBe(true);
  expect(keyStringsIn(url)).toEqual([KEY]);
});

test('of many key strings the first two are returned, each once', () => {
  const keys = ['live', 'test', 'live'].map((environment) => KEY.replace('live', environment));
  const others = [1, 2, 3].map((n) => KEY.replace('0', String(n)));
  expect(keyStringsIn([...keys, ...others].join(' '))).toEqual([KEY, KEY.replace('live', 'test')]);
  expect(keyStringsIn('/healthz')).toEqual([]);
});

test('a credential in a text is replaced for a log, and the rest of the text stays', () => {
  expect(withoutCredentials(`x ${KEY}, ${TOKEN}!`)).toBe('x [credential], [credential]!');
  expect(withoutCredentials(`${KEY.slice(0, 30)} curl/8`)).toBe('[credential] curl/8');
  expect(withoutCredentials('curl/8')).toBe('curl/8');
});

test('a pattern with a prefix matches keys with that prefix only', () => {
  expect(KEY).toMatch(new RegExp(exposedKeyPattern('pan')));
  expect(KEY).not.toMatch(new RegExp(exposedKeyPattern('acme')));
  expect([...TOKEN.matchAll(WHOLE_TOKEN)].map(([, header]) => header)).toEqual([TOKEN.split('.')[0]]);
});

test('a percent-encoded credential does not stay in a line for a log either', () => {
  const key = KEY.slice(0, 40).replaceAll('_', '%5F');
  for (const text of [
    `GET /a?key=${key}&b=1`,
    `GET /a?token=${TOKEN.replaceAll('.', '%2E')}&b=1`,
    `GET /a?key=%70${key.slice(1)}&b=1`,
  ]) {
    expect(withoutCredentials(text)).toMatch(/^GET \/a\?(key|token)=\[credential\]&b=1$/);
    expect(holdsCredential(withoutCredentials(text))).toBe(false);
  }
  expect(withoutCredentials('GET /a%20b')).toBe('GET /a%20b');
});
