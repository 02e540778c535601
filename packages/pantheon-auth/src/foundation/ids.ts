/** Public identifiers: random, without meaning, safe in logs. */
import { randomBytes } from 'node:crypto';
import { BASE62_ALPHABET } from './encoding.ts';

export const ID_LENGTH = 16;

/**
 * Random bytes are fetched in bulk, because a fetch costs as much for 2 kB as for 20 bytes. Keeping them in memory is
 * safe, because ids are public.
 */
const POOL_BYTES = 2_048;
let pool = Buffer.alloc(0);
let poolAt = 0;

/** 16 base62 characters from the CSPRNG: 95 bits, so collisions do not occur in practice. */
export function newId(): string {
  return randomBase62(ID_LENGTH);
}

/**
 * Base62 characters from the CSPRNG. Bytes of 248 and more are discarded, so that all digits are equally likely. For
 * public values only.
 */
export function randomBase62(length: number): string {
  let text = '';
  while (text.length < length) {
    const byte = nextByte();
    if (byte < 248) text += BASE62_ALPHABET.charAt(byte % 62);
  }
  return text;
}

function nextByte(): number {
  if (poolAt === pool.length) {
    pool = randomBytes(POOL_BYTES);
    poolAt = 0;
  }
  const byte = pool[poolAt] ?? 0;
  poolAt += 1;
  return byte;
}

/** The pattern of public ids. */
export const ID_PATTERN: RegExp = /^[0-9A-Za-z]{16}$/;
