/** Public identifiers: random, without meaning, safe in logs. */
import { randomBytes } from 'node:crypto';
import { BASE62_ALPHABET } from './encoding.ts';

export const ID_LENGTH = 16;

/** 16 base62 characters from the CSPRNG: 95 bits, so two ids never meet. Bytes of 248 and more are thrown away, so no digit is likelier. */
export function newId(): string {
  let id = '';
  while (id.length < ID_LENGTH) {
    for (const byte of randomBytes(ID_LENGTH + 4)) {
      if (byte < 248 && id.length < ID_LENGTH) id += BASE62_ALPHABET.charAt(byte % 62);
    }
  }
  return id;
}

/** What a public id of ours looks like. */
export const ID_PATTERN: RegExp = /^[0-9A-Za-z]{16}$/;
