import { format, inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Secret } from './secret.ts';

const VALUE = 'correct-horse-battery-staple';
const secret = Secret.of(VALUE);

test('only reveal returns the value', () => {
  expect(secret.reveal()).toBe(VALUE);
});

/** Every way in which a value gets into text, a log line or another process. */
const WAYS: Readonly<Record<string, () => string>> = {
  String: () => String(secret),
  template: () => `${secret}`,
  addition: () => `x${secret}`.concat(secret as unknown as string),
  JSON: () => JSON.stringify({ deep: [secret] }),
  inspect: () => inspect({ deep: { secret } }, { showHidden: true, depth: null }),
  'inspect without our hook': () => inspect(secret, { customInspect: false, showHidden: true }),
  format: () => format('%s %o %j %O', secret, secret, secret, secret),
  'an error': () => inspect(new Error(`no ${secret}`, { cause: { secret } })),
  'its members': () => JSON.stringify([Object.entries(secret), Object.getOwnPropertyNames(secret), { ...secret }]),
  clone: () => inspect(structuredClone(secret)),
};

describe('a secret is not shown (I1)', () => {
  test.each(Object.entries(WAYS))('by %s', (_way, show) => {
    expect(show()).not.toContain(VALUE);
  });

  test.each(['String', 'template', 'JSON', 'inspect', 'format'])('%s prints [secret] in its place', (way) => {
    expect(WAYS[way]?.()).toContain('[secret]');
  });
});
