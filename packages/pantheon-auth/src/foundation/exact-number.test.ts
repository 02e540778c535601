import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isReadExactly } from './exact-number.ts';

test.each([
  ...[
    '0',
    '-0',
    '0.0',
    '0e400',
    '1',
    '-1',
    '1.0',
    '1.50',
    '1e3',
    '1E+3',
    '100e-2',
    '9007199254740991',
    '-9007199254740991',
  ],
  ...[
    '9007199254740992',
    '1e21',
    '1e300',
    '1.7976931348623157e308',
    '5e-324',
    '2.2250738585072014e-308',
    '1e15',
    '0.1',
  ],
  ...['0.30000000000000004', '0.10000000000000001', '3.141592653589793', '3.1415926535897931', '123456789012345680000'],
])('%s is parsed exactly', (token) => {
  expect(isReadExactly(token)).toBe(true);
});

test.each([
  ...['9007199254740993', '-9007199254740993', '9007199254740993.0', '9007199254740993e0', '900719925474099.3e1'],
  ...['18446744073709551615', '1152921504606846977', '9223372036854775807', '123456789012345678', '1e400', '-1e309'],
  ...[
    '1e-400',
    '-1e-400',
    '1e-324',
    '1.2345678e-320',
    '3.14159265358979323846',
    '0.1000000000000000055511151231257827',
  ],
  ...['0.12345678901234567891', '1e99999999999999999999', '1e-99999999999999999999', `0.${'3'.repeat(50)}`],
  `1${'0'.repeat(400)}`,
])('%s is refused', (token) => {
  expect(isReadExactly(token)).toBe(false);
});

test('every number that this service writes is parsed exactly', () => {
  fc.assert(fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (n) => isReadExactly(JSON.stringify(n))));
  fc.assert(fc.property(fc.maxSafeInteger(), (n) => isReadExactly(JSON.stringify(n))));
});

test('a whole number is accepted exactly if formatting it gives the same digits', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 69n), max: 2n ** 69n }), (n) => {
      expect(isReadExactly(String(n))).toBe(String(Number(n)) === String(n));
    }),
  );
});
