/**
 * Signs, parses and verifies the compact JWS (RFC 7515) with node:crypto, synchronously. Parsing is strict: a token has
 * exactly one valid encoding, except for the second form of an ES256 signature (see {@link toLowerHalf}). Claims are in
 * `domain/claims.ts`. The caller resolves the `kid`, so that a token never chooses its own key or algorithm (RFC 8725
 * sections 3.1, 3.10).
 */
import { isUtf8 } from 'node:buffer';
import { createHmac, type KeyObject, sign as signBytes, timingSafeEqual, verify as verifyBytes } from 'node:crypto';
import {
  type AsymmetricAlgorithm,
  CUSTOM_CLAIMS_DEPTH_MAX,
  isSigningAlgorithm,
  type SigningAlgorithm,
} from '../domain/claims.ts';
import { decodeBase64url, type JsonObject } from '../foundation/encoding.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { isJsonObject, parseStrictJson } from '../foundation/strict-json.ts';
import {
  algorithmOfKey,
  RSA_BITS_MAX,
  RSA_BITS_MIN,
  SECRET_BYTES_MIN,
  type VerificationKey,
} from './verification-key.ts';

export { jwkThumbprint, type VerificationKey } from './verification-key.ts';

/** Node accepts 16 KiB of headers in total; half of that leaves room for other headers. */
export const JWS_LENGTH_MAX = 8192;
/** Matches a thumbprint and the `kid` of a key, and nothing with a special meaning in a path, in SQL or to a parser. */
export const KID_PATTERN: RegExp = /^[A-Za-z0-9_-]{1,64}$/;
/**
 * All tokens of one signing key have the same header text, and there are few signing keys; each key that signs its own
 * tokens adds one.
 */
const HEADER_CACHE_ENTRIES_MAX = 256;
/** Headers of this service have about 130 characters. Bounds the cache to 128 KiB. */
const CACHED_HEADER_LENGTH_MAX = 512;

export interface JwsHeader {
  readonly alg: SigningAlgorithm;
  readonly kid: string;
  readonly typ: string;
}

/** A well-formed token. Its content must not be trusted before {@link verifyJws} has succeeded. */
export interface ParsedJws {
  readonly header: JwsHeader;
  readonly payload: JsonObject;
  readonly signingInput: Buffer;
  readonly signature: Buffer;
}

/**
 * Signs a payload. `key` is the private key of the algorithm or, for HS256, the secret.
 *
 * @throws PantheonError `invalid_request` when the token would be longer than {@link JWS_LENGTH_MAX}.
 */
export function signJws(input: {
  readonly header: JwsHeader;
  readonly payload: JsonObject;
  readonly key: KeyObject | Buffer;
}): string {
  const { alg, kid, typ } = input.header;
  invariant(KID_PATTERN.test(kid), 'a kid that we sign with is one that we would accept');
  const signingInput = `${encodeJson({ alg, typ, kid })}.${encodeJson(input.payload)}`;
  const token = `${signingInput}.${signatureOf(alg, Buffer.from(signingInput, 'latin1'), input.key).toString('base64url')}`;
  if (token.length <= JWS_LENGTH_MAX) return token;
  const detail = `The token would be longer than ${JWS_LENGTH_MAX} characters: ask for fewer permissions, audiences or custom claims.`;
  throw new PantheonError('invalid_request', { detail });
}

function encodeJson(value: object): string {
  return Buffer.from(JSON.stringify(value), 'utf8').toString('base64url');
}

function signatureOf(alg: SigningAlgorithm, signingInput: Buffer, key: KeyObject | Buffer): Buffer {
  if (alg === 'HS256') {
    const size = Buffer.isBuffer(key) ? key.length : (key.symmetricKeySize ?? 0);
    invariant(size >= SECRET_BYTES_MIN, 'HS256 signs with a secret of at least 32 bytes');
    return createHmac('sha256', key).update(signingInput).digest();
  }
  invariant(
    !Buffer.isBuffer(key) && key.type === 'private' && algorithmOfKey(key) === alg,
    'the key is one for the algorithm',
  );
  const signature = signBytes(DIGESTS[alg], signingInput, { key, dsaEncoding: 'ieee-p1363' });
  return alg === 'ES256' ? toLowerHalf(signature) : signature;
}

/**
 * Of the two equivalent ES256 signatures (r, s) and (r, n-s), returns the one with the smaller s. Verification accepts
 * both, because earlier versions and the published test vectors use either. Nothing is gained by converting one into
 * the other: tokens are revoked by `jti`, key and version, limits are counted by key, and the other form is verified
 * like a new token.
 */
function toLowerHalf(signature: Buffer): Buffer {
  const s = BigInt(`0x${signature.toString('hex', 32)}`);
  if (s <= P256_ORDER_NUMBER >> 1n) return signature;
  const other = (P256_ORDER_NUMBER - s).toString(16).padStart(64, '0');
  return Buffer.concat([signature.subarray(0, 32), Buffer.from(other, 'hex')]);
}

const ZERO = Buffer.alloc(32);
const P256_ORDER = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex');
const P256_ORDER_NUMBER = BigInt(`0x${P256_ORDER.toString('hex')}`);

/** Null for Ed25519, which includes its own hash. */
const DIGESTS: Readonly<Record<AsymmetricAlgorithm, string | null>> = {
  RS256: 'sha256',
  ES256: 'sha256',
  Ed25519: null,
};

/**
 * Parses a token. Null unless it is exactly as RFC 7515 section 7.1 says and as this service issues. Uses no key, and
 * fails before decoding more than necessary.
 */
export function parseJws(token: string): ParsedJws | null {
  if (token.length > JWS_LENGTH_MAX) return null;
  const headerEnd = token.indexOf('.');
  const payloadEnd = token.indexOf('.', headerEnd + 1);
  // A third dot is not base64url, so a JWE or an appended part fails when the signature is decoded.
  if (headerEnd <= 0 || payloadEnd < 0) return null;

  const header = parseHeader(token.slice(0, headerEnd));
  if (header === null) return null;
  const signature = decodeBase64url(token.slice(payloadEnd + 1));
  if (signature === null || !hasPossibleLength(header.alg, signature)) return null;
  const payload = parsePart(token.slice(headerEnd + 1, payloadEnd));
  if (payload === null) return null;
  // All characters have been checked to be ASCII, so each is one byte.
  return { header, payload, signature, signingInput: Buffer.from(token.slice(0, payloadEnd), 'latin1') };
}

/** Header members that name a key or need unsupported features. `x5t` and `x5t#S256` are matched by their prefix. */
const REFUSED_HEADERS: ReadonlySet<string> = new Set(['crit', 'b64', 'zip', 'cty', 'enc', 'jwk', 'jku', 'x5u', 'x5c']);

/** Results of {@link parseHeader} by encoded text. They depend on that text only, so they never become outdated. */
const headerCache = new Map<string, JwsHeader>();

function parseHeader(encoded: string): JwsHeader | null {
  const cached = headerCache.get(encoded);
  if (cached !== undefined) return cached;

  const members = parsePart(encoded);
  if (members === null || Object.keys(members).some((name) => REFUSED_HEADERS.has(name) || name.startsWith('x5t')))
    return null;
  const { alg, kid, typ } = members;
  if (!isSigningAlgorithm(alg) || typeof typ !== 'string' || typeof kid !== 'string' || !KID_PATTERN.test(kid))
    return null;
  const header: JwsHeader = { alg, kid, typ };

  if (encoded.length <= CACHED_HEADER_LENGTH_MAX) {
    if (headerCache.size >= HEADER_CACHE_ENTRIES_MAX) headerCache.clear();
    // Copied, because a slice would keep the whole token in memory.
    headerCache.set(Buffer.from(encoded, 'latin1').toString('latin1'), header);
  }
  return header;
}

/** A JSON object in canonical base64url and valid UTF-8, with unique names. */
function parsePart(encoded: string): JsonObject | null {
  const bytes = decodeBase64url(encoded);
  // Invalid UTF-8 is refused: decoding would replace it, and two different tokens would have the same content.
  if (bytes === null || !isUtf8(bytes)) return null;
  const parsed = parseStrictJson(bytes.toString('utf8'), { depthMax: CUSTOM_CLAIMS_DEPTH_MAX });
  return parsed.ok && isJsonObject(parsed.value) ? parsed.value : null;
}

/** The length is fixed by the algorithm; for RS256 by the key, which OpenSSL checks. */
function hasPossibleLength(alg: SigningAlgorithm, { length }: Buffer): boolean {
  if (alg === 'RS256') return length >= RSA_BITS_MIN / 8 && length <= RSA_BITS_MAX / 8;
  return length === (alg === 'HS256' ? 32 : 64);
}

/**
 * Whether the signature was made with this key. Also false when the header names another algorithm than that of the
 * key.
 */
export function verifyJws(parsed: ParsedJws, { algorithm, key }: VerificationKey): boolean {
  const { header, signingInput, signature } = parsed;
  if (header.alg !== algorithm || algorithmOfKey(key) !== algorithm || key.type === 'private') return false;
  if (!hasPossibleLength(algorithm, signature)) return false;
  if (algorithm === 'HS256') {
    return timingSafeEqual(createHmac('sha256', key).update(signingInput).digest(), signature);
  }
  if (algorithm === 'ES256' && !(isP256Scalar(signature, 0) && isP256Scalar(signature, 32))) return false;
  return verifyBytes(DIGESTS[algorithm], signingInput, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

/** Whether the 32 bytes from there are in [1, n-1]. Zeros were accepted by Java until CVE-2022-21449. */
function isP256Scalar(signature: Buffer, start: number): boolean {
  return (
    signature.compare(ZERO, 0, 32, start, start + 32) > 0 && signature.compare(P256_ORDER, 0, 32, start, start + 32) < 0
  );
}
