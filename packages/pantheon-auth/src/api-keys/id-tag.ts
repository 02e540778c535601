/**
 * The tag in the id of an API key: the last 4 of its 16 characters are a MAC over the first 12, under a secret of the
 * store. Who does not know the secret can invent ids, but not ids that this store could have issued, so an invented one
 * is told apart without asking the database. Which secrets a store has is `id-tags.ts`; vectors: `docs/key-format.md`.
 */
import { createHmac, type KeyObject } from 'node:crypto';
import { BASE62_ALPHABET } from '../foundation/encoding.ts';
import { ID_LENGTH, ID_PATTERN, randomBase62 } from '../foundation/ids.ts';

/** A whole HMAC-SHA-256 key. */
export const TAG_SECRET_BYTES = 32;
/** 14.8 million tags: somebody who guesses one buys one read in that many. */
const TAG_LENGTH = 4;
const TAG_VALUES = 62n ** BigInt(TAG_LENGTH);
/** 12 random characters: 71 bits. Two ids that meet are refused by the database when the second is made. */
const RANDOM_LENGTH: number = ID_LENGTH - TAG_LENGTH;
/** Part of the format: it never changes. The zero byte ends it. */
const LABEL = Buffer.from('pantheon/id-tag/v1\0', 'latin1');

/** A new id that this secret tags. */
export function taggedId(secret: KeyObject): string {
  const random = randomBase62(RANDOM_LENGTH);
  return random + tagOf(random, secret);
}

/** Whether this secret tagged the id. What is not an id of ours was not tagged. */
export function isTaggedBy(id: string, secret: KeyObject): boolean {
  return ID_PATTERN.test(id) && tagOf(id.slice(0, RANDOM_LENGTH), secret) === id.slice(RANDOM_LENGTH);
}

/**
 * The first 8 bytes of HMAC-SHA-256(secret, label ‖ 12 characters), read as one unsigned big-endian number, modulo 62⁴,
 * in base 62, padded with `0`. A modulus so that any language with 64-bit numbers can do it; its bias is below 2⁻⁴⁰.
 */
function tagOf(random: string, secret: KeyObject): string {
  const mac = createHmac('sha256', secret).update(LABEL).update(random, 'latin1').digest();
  let rest = Number(mac.readBigUInt64BE() % TAG_VALUES);
  let tag = '';
  for (let digit = 0; digit < TAG_LENGTH; digit += 1) {
    tag = BASE62_ALPHABET.charAt(rest % 62) + tag;
    rest = Math.floor(rest / 62);
  }
  return tag;
}
