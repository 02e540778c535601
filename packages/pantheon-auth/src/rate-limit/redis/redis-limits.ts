/** The public subpath `pantheon-auth/redis`: limits that all nodes count together in Redis or Valkey. */
import { PantheonError } from '../../foundation/errors.ts';
import { Secret } from '../../foundation/secret.ts';
import { MemoryLimiter } from '../memory/memory-limiter.ts';
import type { RateLimiter, SharedLimits, SharedLimitsContext } from '../rate-limiter.ts';
import { RedisConnection } from './redis-connection.ts';
import { type LimiterOutagePolicy, RedisLimiter } from './redis-limiter.ts';
import { parseRedisUrls } from './redis-url.ts';

export type { SharedLimits } from '../rate-limiter.ts';
export type { LimiterOutagePolicy } from './redis-limiter.ts';

export interface RedisLimitsOptions {
  /**
   * `redis://` or `rediss://` (TLS), with user, password and database if needed. Several addresses, separated by
   * commas, for a cluster or for a primary and its replicas: the first that answers and is not a replica is used.
   */
  readonly url: string;
  /**
   * What happens while Redis does not answer. `local` (the default): each node admits its share of every limit, the
   * limit divided by the number of nodes and at least 1, and answers have `degraded: true`. `deny`: keys with rate
   * limits get a 503 `limiter_unavailable`.
   */
  readonly onLimiterOutage?: LimiterOutagePolicy;
}

/**
 * Rate limits shared by all nodes: one script and one round trip, using the clock of Redis. Needs Redis 6.2 or Valkey,
 * standalone or cluster, with `maxmemory-policy noeviction` if `maxmemory` is set. After a loss of data in Redis limits
 * start as used up. Disable snapshots, or use an append-only file: a restored old snapshot would not be detected.
 * Quotas are counted in the database.
 *
 * @example
 * ```ts
 * import { redisLimits } from 'pantheon-auth/redis';
 * const limits = redisLimits({ url: 'redis://127.0.0.1:6379', onLimiterOutage: 'deny' });
 * ```
 *
 * @throws PantheonError `invalid_setting` when the options are not valid.
 */
export function redisLimits({ url, onLimiterOutage = 'local' }: RedisLimitsOptions): SharedLimits {
  const seeds = parseRedisUrls(url).map((seed) => Secret.of(seed));
  if (onLimiterOutage !== 'local' && onLimiterOutage !== 'deny')
    throw invalidSetting('onLimiterOutage', 'local or deny');
  return { open: (context) => openRedisLimits(context, seeds, onLimiterOutage) };
}

async function openRedisLimits(
  { clock, quotaLedger, countersBytesMax, nodeCount, claimFirstUse, logger }: SharedLimitsContext,
  seeds: readonly Secret[],
  onLimiterOutage: LimiterOutagePolicy,
): Promise<RateLimiter> {
  const connection = new RedisConnection({ seeds, clock, logger, claimFirstUse });
  await connection.open();
  const memory = new MemoryLimiter({ clock, quotaLedger, bytesMax: countersBytesMax });
  return new RedisLimiter({ clock, connection, memory, nodeCount, onLimiterOutage });
}

function invalidSetting(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}
