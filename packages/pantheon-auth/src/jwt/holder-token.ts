/**
 * Makes a token from a key string alone, offline, so that the key itself is not sent. The service decides at
 * verification (`token-verifier.ts`) whether to accept it: the policy of the key must use HS256, and the token grants
 * no more than the key.
 */

import { deriveKid, deriveSigningSecret } from '../api-keys/key-derivation.ts';
import { type ParsedKey, parseKey, secretBytes } from '../api-keys/key-generator.ts';
import {
  AUDIENCE_LENGTH_MAX,
  AUDIENCE_PATTERN,
  AUDIENCES_MAX,
  buildKeySignedClaims,
  KEY_SIGNED_LIFETIME_MAX_SECONDS,
} from '../domain/claims.ts';
import { isPermissionPattern, PERMISSIONS_MAX } from '../domain/permissions.ts';
import { type Clock, systemClock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { newId } from '../foundation/ids.ts';
import { type KeySigner, signWithKey } from './token-issuer.ts';

/** The options of {@link mintKeyToken}. */
export interface MintTokenOptions {
  /** The key string itself. */
  readonly key: string;
  /** `iss`: the public URL of the service that will verify the token. */
  readonly issuer: string;
  /**
   * The audiences. The policy of the key must allow each of them; without a policy those of the service are allowed.
   */
  readonly audience: readonly string[];
  /**
   * The permissions of the token, limited to those of the key at verification. Default: none. `*`: all application
   * permissions of the key.
   */
  readonly permissions?: readonly string[];
  /** Lifetime in seconds. Default and maximum: 300. If the policy of the key has a shorter `ttl`: at most that. */
  readonly ttlSeconds?: number;
  /** First part of the key string. Default: `pan`. */
  readonly keyPrefix?: string;
  /** For tests. */
  readonly clock?: Clock;
}

/**
 * Mints an HS256 token with the secret that holder and service both derive from the key.
 *
 * @throws PantheonError `invalid_request`, naming the field without repeating its value.
 *
 * @example
 * ```ts
 * import { APIKeyGenerator, mintKeyToken } from 'pantheon-auth';
 *
 * const { key } = new APIKeyGenerator().generateKey();
 * const issuer = 'https://auth.example.com';
 * const token = mintKeyToken({ key, issuer, audience: [issuer], permissions: ['orders:read'] });
 * ```
 */
export function mintKeyToken(options: MintTokenOptions): string {
  const { key, issuer, audience, permissions = [], ttlSeconds = KEY_SIGNED_LIFETIME_MAX_SECONDS } = options;
  const parsed = parseKey(key, options.keyPrefix);
  if (parsed === null) throw invalid('key', 'It is not a key string: check that it was copied completely.');
  if (!isName(issuer)) throw invalid('issuer', NAME_ADVICE);
  if (audience.length === 0 || audience.length > AUDIENCES_MAX)
    throw invalid('audience', `Name 1 to ${AUDIENCES_MAX} audiences.`);
  for (const [at, one] of audience.entries()) if (!isName(one)) throw invalid(`audience[${at}]`, NAME_ADVICE);
  if (permissions.length > PERMISSIONS_MAX) throw invalid('permissions', `At most ${PERMISSIONS_MAX}.`);
  for (const [at, one] of permissions.entries())
    if (!isPermissionPattern(one)) throw invalid(`permissions[${at}]`, 'Write segment(:segment)* of a-z 0-9 . _ -.');
  const isPossibleLife =
    Number.isInteger(ttlSeconds) && ttlSeconds >= 1 && ttlSeconds <= KEY_SIGNED_LIFETIME_MAX_SECONDS;
  if (!isPossibleLife) throw invalid('ttl', `Whole seconds from 1 to ${KEY_SIGNED_LIFETIME_MAX_SECONDS}.`);

  const payload = buildKeySignedClaims({
    issuer,
    audience,
    keyId: parsed.id,
    tokenId: newId(),
    permissions: [...new Set(permissions)],
    now: (options.clock ?? systemClock).now(),
    lifetimeSeconds: ttlSeconds,
    // The holder does not know the expiry of the key. Verification checks it.
    keyExpiresAt: null,
  });
  return signWithKey(payload, signerOf(parsed));
}

/** The HS256 secret and `kid` that holder and service both derive from the key string. */
export function signerOf(parsed: ParsedKey): KeySigner {
  const secret = secretBytes(parsed);
  return { kid: deriveKid(secret, parsed.id), secret: deriveSigningSecret(secret, parsed.id) };
}

const NAME_ADVICE = `1 to ${AUDIENCE_LENGTH_MAX} printable ASCII characters without spaces.`;

function isName(text: string): boolean {
  return text.length <= AUDIENCE_LENGTH_MAX && AUDIENCE_PATTERN.test(text);
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
