import { CODES, type Code, DENIALS, STARTUP } from 'pantheon-auth';
import { expect, test } from 'vitest';
import { EXIT, EXIT_CODES_HELP, exitCodeOf, exitCodeOfStatus } from './exit-codes.ts';

test.each([
  [400, EXIT.usage],
  [401, EXIT.notAllowed],
  [403, EXIT.notAllowed],
  [404, EXIT.refused],
  [409, EXIT.refused],
  [412, EXIT.refused],
  [413, EXIT.usage],
  [422, EXIT.usage],
  [429, EXIT.unavailable],
  [500, EXIT.internal],
  [502, EXIT.unavailable],
  [503, EXIT.unavailable],
  [504, EXIT.unavailable],
] as const)('status %i ends with the documented exit code %i', (status, expected) => {
  expect(exitCodeOfStatus(status)).toBe(expected);
});

test('every code ends with one of the documented exit codes, and none of them with success', () => {
  for (const code of Object.keys(CODES) as Code[]) {
    expect(exitCodeOf(code)).not.toBe(EXIT.ok);
    expect(Object.values(EXIT)).toContain(exitCodeOf(code));
  }
});

test('a wrong setting is a usage error, and a store that cannot be opened may be retried', () => {
  for (const code of Object.keys(STARTUP) as (keyof typeof STARTUP)[])
    expect(exitCodeOf(code)).toBe(code === 'invalid_setting' ? EXIT.usage : EXIT.unavailable);
});

test('an invalid credential of the caller is never reported as a denial of the verified one', () => {
  for (const code of Object.keys(DENIALS) as (keyof typeof DENIALS)[])
    expect([EXIT.notAllowed, EXIT.unavailable]).toContain(exitCodeOf(code));
});

test('the help lists every exit code', () => {
  for (const code of Object.values(EXIT)) expect(EXIT_CODES_HELP).toMatch(new RegExp(`^ {2}${code} `, 'm'));
});
