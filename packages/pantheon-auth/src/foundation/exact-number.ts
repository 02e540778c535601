/**
 * Whether `JSON.parse` reads a number as the value that was sent. It reads 9007199254740993 as ...992, 1e-400 as 0, and
 * long decimals as the nearest double. The sender and this service would then have different values, and another reader
 * of the text could decide differently.
 */

/** A double holds any 15 digits exactly, and without an exponent the value is far from the ends of its range. */
export const PLAIN_NUMBER_LENGTH_MAX = 15;
/** 17 digits distinguish all doubles. A number with more digits is meant to be more exact than a double. */
const DIGITS_MAX = 17;

const NUMBER = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;

/** `token` is a valid JSON number. */
export function isReadExactly(token: string): boolean {
  const value = Number(token);
  if (!Number.isFinite(value)) return false;
  const sent = decimalOf(token);
  if (sent === decimalOf(String(value))) return true;
  // Other languages print doubles with 17 digits, such as 0.10000000000000001 for 0.1; that is accepted. For whole
  // numbers no digit may be lost.
  const { length } = sent.slice(0, sent.indexOf('e'));
  return !Number.isInteger(value) && length <= DIGITS_MAX && sent === decimalOf(value.toPrecision(length));
}

/** The normalised decimal, without sign: `1.50e3`, `1500` and `15e2` all give `15e2`. */
function decimalOf(text: string): string {
  const [, whole = '', fraction = '', exponent = '0'] = NUMBER.exec(text) ?? [];
  const digits = `${whole}${fraction}`.replace(/^0+/, '');
  const significant = withoutTrailingZeros(digits);
  if (significant === '') return '0e0';
  return `${significant}e${Number(exponent) - fraction.length + (digits.length - significant.length)}`;
}

/** Without a regular expression, which would take quadratic time on runs of zeros. */
function withoutTrailingZeros(digits: string): string {
  let end = digits.length;
  while (digits[end - 1] === '0') end -= 1;
  return digits.slice(0, end);
}
