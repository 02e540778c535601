/**
 * A token made by the holder of a key, offline: the key signs for itself and never travels. What is needed is the key
 * string alone; neither the store nor the service is asked. Whether the service accepts it is decided when it is
 * verified (`token-verifier.ts`): the policy of the key must ask for HS256, and the token grants no more than the key.
 */

import { deriveKid, deriveSigningSecret } from '../api-keys/key-derivation.ts';
import { type ParsedKey, parseKey, secretBytes } from '../api-keys/key-generator.ts';
import {
  AUDIENCE_LENGTH_MAX,
  AUDIENCES_MAX,
  buildKeySignedClaims,
  KEY_SIGNED_LIFETIME_MAX_SECONDS,
} from '../domain/claims.ts';
import { isPermissionPattern, PERMISSIONS_MAX } from '../domain/permissions.ts';
import { type Clock, systemClock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { newId } from '../foundation/ids.ts';
import { type KeySigner, signWithKey } from './token-issuer.ts';

/** What {@link mintKeyToken} makes a token from. */
export interface MintTokenOptions {
  /** The key string itself. */
  readonly key: string;
  /** `iss`: the public URL of the service that will verify the token. */
  readonly issuer: string;
  /** For whom it is. The policy of the key must allow each; without a policy, the service's own audience. */
  readonly audience: readonly string[];
  /** What the token may do: narrowed to what the key may. Without any it grants nothing; `*` is all of the application's. */
  readonly permissions?: readonly string[];
  /** Default and at most 300: a longer need is met by minting the next one. */
  readonly ttlSeconds?: number;
  /** First part of the key string. Default `pan`. */
  readonly keyPrefix?: string;
  /** For tests. */
  readonly clock?: Clock;
}

/**
 * Mints an HS256 token with the secret that holder and service both derive from the key.
 *
 * @throws PantheonError `invalid_request`, naming the field; what was given is never repeated.
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
  if (parsed === null) throw invalid('key', 'It is not a key string: check that it was copied whole.');
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
    // The holder does not know the record. Verification asks it: the token dies with its key.
    keyExpiresAt: null,
  });
  return signWithKey(payload, signerOf(parsed));
}

/** The secret with which a key signs for itself: what holder and service both derive from the key string. */
export function signerOf(parsed: ParsedKey): KeySigner {
  const secret = secretBytes(parsed);
  return { kid: deriveKid(secret, parsed.id), secret: deriveSigningSecret(secret, parsed.id) };
}

const NAME_ADVICE = `1 to ${AUDIENCE_LENGTH_MAX} printable ASCII characters without spaces.`;
const PRINTABLE = /^[\x21-\x7e]+$/;

function isName(text: string): boolean {
  return text.length <= AUDIENCE_LENGTH_MAX && PRINTABLE.test(text);
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
