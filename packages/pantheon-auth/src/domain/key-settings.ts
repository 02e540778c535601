/** What the owner of an API key decides about it. How it is written outside is `key-wire.ts`. */
import type { Instant } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import type { SigningAlgorithm } from './claims.ts';
import type { QuotaRule, RateLimitRule } from './limits.ts';

export type Environment = 'live' | 'test';

/** In place of an environment: keys of both are accepted. A symbol, as for tenants: no request or row can hold one. */
export const ANY_ENVIRONMENT: unique symbol = Symbol.for('pantheon-auth.any-environment');

/** How tokens are made from this key. */
export interface JwtSettings {
  readonly algorithm: SigningAlgorithm;
  /** The audiences a token may be for. The first is used when none is asked for. */
  readonly audience: readonly string[];
  readonly customClaims: JsonObject;
  readonly ttlSeconds: number;
}

/** What happens to a key whose holder has not claimed the next version in time. */
export type MissedRotation = 'extend' | 'expire';

export interface RotationSettings {
  /** How old a version may become before the next one is due; null: only by hand. */
  readonly everySeconds: number | null;
  readonly overlapSeconds: number;
  /** How long the holder has to claim the next version once it is due. */
  readonly windowSeconds: number;
  readonly onMissed: MissedRotation;
  /**
   * The public key (JWK) of the holder. With it the service rotates by itself and keeps the next key string encrypted to
   * this key until the holder fetches it. Null: the holder claims the next version.
   */
  readonly recipientJwk: JsonObject | null;
}

/** The window of policies that name none. */
export const ROTATION_WINDOW_SECONDS_DEFAULT: number = 7 * 86_400;

/** What the owner decides about a key. */
export interface KeySettings {
  readonly userId: string;
  readonly name: string;
  readonly description: string | null;
  readonly environment: Environment;
  readonly permissions: readonly string[];
  readonly grantable: readonly string[];
  readonly notBefore: Instant | null;
  readonly expiresAt: Instant | null;
  readonly rateLimits: readonly RateLimitRule[];
  readonly quota: QuotaRule | null;
  /** Canonical CIDR ranges; empty: from anywhere. */
  readonly ipAllowlist: readonly string[];
  readonly rotation: RotationSettings | null;
  readonly jwt: JwtSettings | null;
  readonly metadata: JsonObject | null;
}
