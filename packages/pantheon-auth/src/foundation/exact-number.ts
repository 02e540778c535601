/**
 * Whether a number of a JSON text is read as the number that was sent. `JSON.parse` reads 9007199254740993 as ...992,
 * 1e-400 as 0 and the decimals of a money library as their nearest double: the sender and we would then speak of
 * different numbers, and whoever reads the original text, or the one we write, decides differently.
 */

/** 15 digits survive a double whatever they are, and without an exponent neither end of its range is near. */
export const PLAIN_NUMBER_LENGTH_MAX = 15;
/** Enough to tell every double from every other; a sender that writes more means something that is not one. */
const DIGITS_MAX = 17;

const NUMBER = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;

/** Of a valid JSON number. */
export function isReadExactly(token: string): boolean {
  const value = Number(token);
  if (!Number.isFinite(value)) return false;
  const sent = decimalOf(token);
  if (sent === decimalOf(String(value))) return true;
  // As other languages print a double: 0.1 with 17 digits. A whole number has no digits that may be rounded away.
  const { length } = sent.slice(0, sent.indexOf('e'));
  return !Number.isInteger(value) && length <= DIGITS_MAX && sent === decimalOf(value.toPrecision(length));
}

/** One text for one decimal number, without its sign: `1.50e3`, `1500` and `15e2` are `15e2`. */
function decimalOf(text: string): string {
  const [, whole = '', fraction = '', exponent = '0'] = NUMBER.exec(text) ?? [];
  const digits = `${whole}${fraction}`.replace(/^0+/, '');
  const significant = withoutTrailingZeros(digits);
  if (significant === '') return '0e0';
  return `${significant}e${Number(exponent) - fraction.length + (digits.length - significant.length)}`;
}

/** Not by an expression, which looks at every run of zeros inside a long number. */
function withoutTrailingZeros(digits: string): string {
  let end = digits.length;
  while (digits[end - 1] === '0') end -= 1;
  return digits.slice(0, end);
}
