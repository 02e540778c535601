/**
 * The tag in the id of an API key: the last 4 of its 16 characters are a MAC over the first 12, under a secret of the
 * database. Without the secret nobody can invent an id with a valid tag, so invented ids are refused without reading
 * the database. The secrets are managed in `id-tags.ts`; test vectors are in `docs/key-format.md`.
 */
import { createHmac, type KeyObject } from 'node:crypto';
import { BASE62_ALPHABET } from '../foundation/encoding.ts';
import { ID_LENGTH, ID_PATTERN, randomBase62 } from '../foundation/ids.ts';

/** The full key length of HMAC-SHA-256. */
export const TAG_SECRET_BYTES = 32;
/** There are 14.8 million tags, so one in that many invented ids costs a read. */
const TAG_LENGTH = 4;
const TAG_VALUES = 62n ** BigInt(TAG_LENGTH);
/** 12 random characters are 71 bits. The database refuses a second key with the same id. */
const RANDOM_LENGTH: number = ID_LENGTH - TAG_LENGTH;
/** Part of the format: it never changes. The zero byte separates it from the id. */
const LABEL = Buffer.from('pantheon/id-tag/v1\0', 'latin1');

/** A new id with a tag under this secret. */
export function taggedId(secret: KeyObject): string {
  const random = randomBase62(RANDOM_LENGTH);
  return random + tagOf(random, secret);
}

/** Whether the tag of the id was made with this secret. False for a malformed id. */
export function isTaggedBy(id: string, secret: KeyObject): boolean {
  return ID_PATTERN.test(id) && tagOf(id.slice(0, RANDOM_LENGTH), secret) === id.slice(RANDOM_LENGTH);
}

/**
 * The first 8 bytes of HMAC-SHA-256(secret, label ‖ 12 characters), read as one unsigned big-endian number, modulo 62⁴,
 * in base 62, padded with `0`. With a modulus any language with 64-bit integers can compute it; its bias is below 2⁻⁴⁰.
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
