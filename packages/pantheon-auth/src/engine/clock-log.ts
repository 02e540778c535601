/** Log lines about the clocks for the operator. */
import { dateOf } from '../events/stored-time.ts';
import type { ClockDoubt, ClockWatcher, Instant } from '../foundation/clock.ts';
import type { Logger } from './options.ts';

export function clockLog(logger: Logger): ClockWatcher {
  const doubts: Readonly<Record<ClockDoubt, string>> = {
    wall: 'the clock of this machine jumped and is not used; no tokens are issued until it is corrected, or this node is restarted',
    log: 'an event of the log is dated far ahead of this clock; no tokens are issued until the clocks are corrected (clock accept)',
  };
  return {
    onSetBack: (byMs) => logger.error({ byMs }, 'the clock was set back; continuing from the latest time seen'),
    onSkew: (byMs) =>
      byMs === 0
        ? logger.warn({}, 'the clocks of this machine and of the database agree again')
        : logger.error(
            { byMs },
            'the clocks of this machine and of the database differ; the time of the database is used',
          ),
    onDoubt: (doubt, byMs) =>
      doubt === null ? logger.warn({}, 'the clock is used again') : logger.error({ byMs }, doubts[doubt]),
  };
}

export function tellAhead(logger: Logger): (latest: Instant, aheadMs: number) => void {
  const message =
    'the clock is far ahead of the last recorded time of this database; stop the node if the clock is wrong';
  return (latest, aheadMs) => logger.warn({ latest: dateOf(latest), aheadMs }, message);
}
