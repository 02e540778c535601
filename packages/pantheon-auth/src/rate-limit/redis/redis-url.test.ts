import { expect, test } from 'vitest';
import { parseRedisUrls } from './redis-url.ts';

test.each([
  ['redis://h', ['redis://h']],
  ['rediss://user:p%40ss@h:6380/3', ['rediss://user:p%40ss@h:6380/3']],
  ['redis://:pw@[::1]:6379/', ['redis://:pw@[::1]:6379/']],
  [' redis://a , rediss://b:1 ', ['redis://a', 'rediss://b:1']],
  [Array(32).fill('redis://h').join(), Array(32).fill('redis://h')],
])('%s', (text, urls) => {
  expect(parseRedisUrls(text)).toEqual(urls);
});

test.each([
  '',
  'h:6379',
  'http://u:hunter2@h',
  'redis://',
  'redis:///9',
  'redis:h',
  'redis://a,',
  'redis://u:hunter2@h/x',
  'redis://u:hunter2@h/12345',
  'redis://u:hunt#er2@h',
  'redis://u:hunter%zz2@h',
  'redis://u:hunter2@h?db=1',
  'redis://u:hunter2@h#x',
  Array(33).fill('redis://u:hunter2@h').join(),
])('%s is refused, and nothing of it is repeated', (text) => {
  const invalid = expect.objectContaining({
    code: 'invalid_setting',
    field: 'REDIS_URL',
    message: expect.not.stringContaining('hunter'),
  });
  expect(() => parseRedisUrls(text, 'REDIS_URL')).toThrow(invalid);
});

test('without a name for it, the option of the library is named', () => {
  expect(() => parseRedisUrls('h')).toThrow(expect.objectContaining({ field: 'url' }));
  expect(() => parseRedisUrls(undefined as unknown as string)).toThrow(expect.objectContaining({ field: 'url' }));
});
