import fc from 'fast-check';
import { expect, test } from 'vitest';
import { foldText, isVisible } from './folded-text.ts';

test.each([
  ['Ångström', 'A\u030angstro\u0308m'],
  ['É', 'e\u0301'],
  ['\u1e9b\u0323', '\u017f\u0323\u0307'],
  ['ΟΔΥΣΣΕΥΣ', 'οδυσσευς'],
  ['ПРИВЕТ', 'привет'],
  ['각', '\u1100\u1161\u11a8'],
  ['\u212b', 'å'],
  ['ABC', 'abc'],
])('searching for %s finds %s, and the other way round', (one, other) => {
  expect(foldText(one)).toBe(foldText(other));
});

test('folding a text twice gives the same as folding it once, and a part of a name is found in it', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => foldText(foldText(text)) === foldText(text)));
  expect(foldText('ΑΣΑ').includes(foldText('ΑΣ'))).toBe(true);
});

test.each([
  '',
  ' ',
  '\u00a0',
  '\u200b',
  '\u200d\u200c',
  '\u2060',
  '\u00ad',
  '\u3164',
  '\u115f\u1160',
  '\uffa0',
  '\u2800',
])('%j has no visible character', (text) => {
  expect(isVisible(text)).toBe(false);
  expect(isVisible(`${text}a${text}`)).toBe(true);
});

test.each(['\ufe0f', '\u0301', '\u{e0020}', '\u034f', '\u180e', '\u2028'])(
  '%j alone has no visible character',
  (text) => {
    expect(isVisible(text)).toBe(false);
  },
);

test.each(['a', '-', '1', '🚀', '👩\u200d💻', '中', '٣', 'می\u200cخواهم', '…'])(
  '%s has a visible character',
  (text) => {
    expect(isVisible(text)).toBe(true);
  },
);
