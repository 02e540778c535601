/** Opens the limiter that the options name: in memory or in Redis, for one node or several. */
import type { Clock } from '../foundation/clock.ts';
import { newId } from '../foundation/ids.ts';
import { HandoverLimiter } from '../rate-limit/memory/handover-limiter.ts';
import { MemoryLimiter } from '../rate-limit/memory/memory-limiter.ts';
import type { RateLimiter, SharedLimits } from '../rate-limit/rate-limiter.ts';
import type { Database } from '../storage/database.ts';
import type { Logger } from './options.ts';

/** Of this form of windows: the first node that counts so begins with empty ones, also after an update. */
const FIRST_COUNTED_BY = 'limitsFirstCountedBy2';

/** @throws PantheonError `redis_required`, `invalid_setting`. */
export async function openLimiter(
  database: Database,
  limits: SharedLimits | 'local' | undefined,
  context: { readonly clock: Clock; readonly logger: Logger; readonly countersBytesMax: number },
): Promise<RateLimiter> {
  const { clock, countersBytesMax: bytesMax } = context;
  const { nodes, quota: quotaLedger, meta } = database;
  if (limits !== 'local') await nodes?.join(limits === undefined ? 'alone' : 'together');
  if (limits === undefined || limits === 'local') {
    const memory = new MemoryLimiter({ clock, quotaLedger, bytesMax });
    return limits === 'local' || nodes === null
      ? memory
      : new HandoverLimiter({ memory, nodeCount: () => nodes.count() });
  }
  // The same id for all attempts, so that a claim whose answer was lost is recognised as ours.
  const mine = newId();
  const claimFirstUse = async (): Promise<boolean> => (await meta.insertOnce(FIRST_COUNTED_BY, mine)) === mine;
  return limits.open({ ...context, quotaLedger, nodeCount: () => nodes?.count() ?? 1, claimFirstUse });
}
