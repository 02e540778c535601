import { expect, test } from 'vitest';
import { isPercentDecodable, pathFlaw, textFlaw } from './written-text.ts';

test.each([
  ['', /empty/],
  [' ', /empty/],
  ['\ufeff', /empty|byte order mark/],
  ['\ufeff/data', /byte order mark/],
  ['\u00ef\u00bb\u00bf/data', /byte order mark/],
  ['/data\r', /control character/],
  ['/data\n', /control character/],
  ['/da\u0000ta', /control character/],
  ['/da\tta', /control character/],
  ['/da\u200bta', /invisible/],
  ['/data\u202e', /invisible/],
  ['/data\u2028', /invisible/],
  [' /data', /space/],
  ['/data ', /space/],
  ['/data\u00a0', /space/],
  ['"/data"', /quotation mark/],
  ["'/data'", /quotation mark/],
  ['`/data`', /quotation mark/],
  ['/data"', /quotation mark/],
  ["'/data", /quotation mark/],
  ['\u201c/data\u201d', /quotation mark/],
])('%j is refused, and the error repeats nothing of it', (text, flaw) => {
  expect(textFlaw(text)).toMatch(flaw);
  expect(textFlaw(text)).not.toContain('data');
  expect(pathFlaw(text)).toBe(textFlaw(text));
});

test.each([
  ['~/data', /home folder/],
  ['~', /home folder/],
  ['$HOME/data', /variable/],
  ['/srv/$'.concat('{NAME}/data'), /variable/],
  ['/srv/$(id)', /variable/],
  ['%APPDATA%\\data', /variable/],
])('%j is refused as a path', (text, flaw) => {
  expect(pathFlaw(text)).toMatch(flaw);
  expect(textFlaw(text)).toBeNull();
});

test.each([
  '/data',
  './data',
  'C:\\Program Files\\data',
  '/srv/O\u2019Neil/data',
  '/srv/a$1',
  '/srv/d\u00e9j\u00e0 vu',
  '/a~b',
  '%20',
])('%j is accepted as a path', (text) => {
  expect(pathFlaw(text)).toBeNull();
});

test.each([
  ['', true],
  ['a%40b', true],
  ['%e2%82%ac', true],
  ['100%', false],
  ['%zz', false],
  ['%e2%82', false],
])('%j: every percent sign begins the code of a character: %j', (text, is) => {
  expect(isPercentDecodable(text)).toBe(is);
});
