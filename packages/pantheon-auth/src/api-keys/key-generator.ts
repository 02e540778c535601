/**
 * Generates, formats, parses and hashes key strings. A generated string is shown once and never stored. The grammar and
 * test vectors are in `docs/key-format.md`.
 */
import { hash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { SigningAlgorithm } from '../domain/claims.ts';
import type { Environment } from '../domain/key.ts';
import { BASE62_ALPHABET, decodeBase62, encodeBase62 } from '../foundation/encoding.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { ID_LENGTH, ID_PATTERN, newId } from '../foundation/ids.ts';
import type { APIKey } from './api-key.ts';

export const DEFAULT_KEY_PREFIX = 'pan';
export const SECRET_BYTES = 32;
const SECRET_LENGTH = 43;
const CHECKSUM_LENGTH = 6;
const TAIL_LENGTH = ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH;
const KEY_PREFIX_PATTERN = /^[a-z][a-z0-9]{1,15}$/;
const TAIL_PATTERN = /^[0-9A-Za-z]{65}$/;
const SECRET_PATTERN = /^[0-9A-Za-z]{43}$/;
/** 2^256 - 1. Base 62 digits sort like their characters, so texts of the same width compare like their numbers. */
const SECRET_MAX = encodeBase62(new Uint8Array(SECRET_BYTES).fill(0xff), SECRET_LENGTH);
/** Longer input cannot be a key: with the longest prefix a key has 87 characters. */
export const KEY_LENGTH_MAX = 96;

/** The parts of a key string. Only `secret` is secret. */
export interface ParsedKey {
  readonly keyPrefix: string;
  readonly environment: Environment;
  readonly id: string;
  /** 43 base62 characters. */
  readonly secret: string;
}

/**
 * Parses a key string: checks form and checksum, without I/O. Null: not a key string. {@link formatKey} is its exact
 * inverse.
 */
export function parseKey(text: string, keyPrefix: string = DEFAULT_KEY_PREFIX): ParsedKey | null {
  // Callers in plain JavaScript may pass any value.
  if (typeof text !== 'string') return null;
  // Both environments are four letters, so all keys with one prefix have the same length.
  const start = keyPrefix.length + 6;
  if (text.length !== start + TAIL_LENGTH || text[keyPrefix.length] !== '_' || text[start - 1] !== '_') return null;
  if (!text.startsWith(keyPrefix)) return null;
  const environment = text.slice(keyPrefix.length + 1, start - 1);
  if (environment !== 'live' && environment !== 'test') return null;
  const tail = text.slice(start);
  if (!TAIL_PATTERN.test(tail)) return null;
  const secret = tail.slice(ID_LENGTH, ID_LENGTH + SECRET_LENGTH);
  if (secret > SECRET_MAX) return null;
  const body = text.slice(0, -CHECKSUM_LENGTH);
  if (checksum(body) !== tail.slice(-CHECKSUM_LENGTH)) return null;
  return { keyPrefix, environment, id: tail.slice(0, ID_LENGTH), secret };
}

/** Formats a key string. */
export function formatKey(key: ParsedKey): string {
  invariant(KEY_PREFIX_PATTERN.test(key.keyPrefix) && ID_PATTERN.test(key.id), 'prefix and id have their form');
  invariant(key.environment === 'live' || key.environment === 'test', 'the environment is one of two');
  invariant(SECRET_PATTERN.test(key.secret) && key.secret <= SECRET_MAX, 'the secret has its form');
  const body = `${key.keyPrefix}_${key.environment}_${key.id}${key.secret}`;
  return body + checksum(body);
}

/** The 32 bytes of the secret. */
export function secretBytes(key: ParsedKey): Buffer {
  const bytes = decodeBase62(key.secret, SECRET_BYTES);
  invariant(bytes !== null, 'a parsed secret is 32 bytes');
  return bytes;
}

/** SHA-256 of the key string. A secret of 256 random bits needs no slow hash (NIST SP 800-63B-4 section 3.1.2.2). */
export function hashKey(key: string): Buffer {
  // Two steps, because the one-shot hash is three times slower when it returns a Buffer.
  return Buffer.from(hash('sha256', key, 'latin1'), 'latin1');
}

/** CRC-32 (IEEE 802.3) as six base62 characters: finds typing errors offline; it is not security. */
function checksum(body: string): string {
  let rest = crc32(body);
  let text = '';
  for (let digit = 0; digit < CHECKSUM_LENGTH; digit += 1) {
    text = BASE62_ALPHABET.charAt(rest % 62) + text;
    rest = Math.floor(rest / 62);
  }
  return text;
}

/** A generated key string with its parts. */
export interface GeneratedKey {
  readonly id: string;
  /** The key string for the holder, shown once. */
  readonly key: string;
  readonly keyHash: Buffer;
  readonly secret: Buffer;
}

/** A new key, and the number of the secret that tagged its id. */
export interface TaggedKey {
  readonly generated: GeneratedKey;
  readonly idTag: number;
}

/**
 * Generates the key string of a new version. All versions of an API key have the same id; the id of a new key comes
 * from `IdTags.newId`. Without an id it gets one without a valid tag, which no database accepts.
 */
export function generateKey(options: {
  readonly keyPrefix: string;
  readonly environment: Environment;
  readonly id?: string;
}): GeneratedKey {
  const { keyPrefix, environment, id = newId() } = options;
  const secret = randomBytes(SECRET_BYTES);
  const key = formatKey({ keyPrefix, environment, id, secret: encodeBase62(secret, SECRET_LENGTH) });
  return { id, key, keyHash: hashKey(key), secret };
}

/** The same for an existing key string; null when it is none. */
export function generatedFrom(text: string, keyPrefix: string): GeneratedKey | null {
  const parsed = parseKey(text, keyPrefix);
  return parsed === null ? null : { id: parsed.id, key: text, keyHash: hashKey(text), secret: secretBytes(parsed) };
}

/** Metadata of a token to be made from a key. */
export interface APIKeyMetadata {
  readonly keyId: string;
  readonly algorithm: SigningAlgorithm;
  readonly issuer: string;
  readonly audience: string[];
  readonly customClaims: Record<string, unknown>;
}

/** Signs tokens: the JWT handler of a running instance, or the key itself for HS256. */
export interface KeyTokenSigner {
  signForKey(apiKey: APIKey, metadata: APIKeyMetadata, key: string | null): string;
}

/**
 * Generates key strings, and tokens from keys, synchronously. A generated string is not stored. If you create the
 * generator yourself (`new APIKeyGenerator()`), the id has no valid tag, so no database ever accepts the key. For
 * usable keys call `auth.keys.create`.
 *
 * @example
 * ```ts
 * import { APIKeyGenerator } from 'pantheon-auth';
 * const { key, keyHash } = new APIKeyGenerator().generateKey();
 * ```
 */
export class APIKeyGenerator {
  readonly #keyPrefix: string;
  readonly #environment: Environment;
  readonly #signer: KeyTokenSigner | null;
  readonly #newId: () => string;

  constructor(
    options: {
      readonly keyPrefix?: string;
      readonly environment?: Environment;
      readonly signer?: KeyTokenSigner;
      /** Returns ids. `auth.generator` uses tagged ids of its database. Default: random ids without a valid tag. */
      readonly newId?: () => string;
    } = {},
  ) {
    this.#keyPrefix = parseKeyPrefix(options.keyPrefix ?? DEFAULT_KEY_PREFIX);
    this.#environment = options.environment ?? 'live';
    this.#signer = options.signer ?? null;
    this.#newId = options.newId ?? newId;
  }

  /** A new key string with 256 random bits, and the SHA-256 of the string in hexadecimal. */
  generateKey(): { key: string; keyHash: string } {
    const { key, keyHash } = generateKey({
      keyPrefix: this.#keyPrefix,
      environment: this.#environment,
      id: this.#newId(),
    });
    return { key, keyHash: keyHash.toString('hex') };
  }

  /**
   * Makes a token from an API key. RS256, ES256 and Ed25519 tokens are signed by the service and need the generator of
   * a running instance (`auth.generator`). HS256 tokens are signed with the secret derived from `key`, never from
   * `keyHash`.
   *
   * @throws PantheonError `signing_secret_unavailable` for HS256 without `key`, or without a running instance.
   */
  generateJWTFromKey(apiKey: APIKey, metadata: APIKeyMetadata, key?: string): string {
    if (this.#signer === null)
      throw new PantheonError('signing_secret_unavailable', { detail: 'Use auth.generator of a running instance.' });
    return this.#signer.signForKey(apiKey, metadata, key ?? null);
  }
}

/** @throws PantheonError `invalid_setting`. */
export function parseKeyPrefix(text: string): string {
  if (!KEY_PREFIX_PATTERN.test(text)) {
    throw new PantheonError('invalid_setting', {
      field: 'keyPrefix',
      detail: 'A prefix is 2 to 16 of a-z and 0-9, a letter first.',
    });
  }
  return text;
}
