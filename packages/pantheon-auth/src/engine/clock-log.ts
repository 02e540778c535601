/** What an operator should know of the clocks, as lines of the log. */
import { dateOf } from '../events/stored-time.ts';
import type { ClockDoubt, ClockWatcher, Instant } from '../foundation/clock.ts';
import type { Logger } from './options.ts';

export function clockLog(logger: Logger): ClockWatcher {
  const doubts: Readonly<Record<ClockDoubt, string>> = {
    wall: 'the clock of this machine jumped and is not followed; no tokens are issued until it is back, or this node is restarted',
    log: 'an event of the log is dated far ahead of this clock; no tokens are issued until the clocks are put right (clock accept)',
  };
  return {
    onSetBack: (byMs) => logger.error({ byMs }, 'the clock was set back; going on from the latest time seen'),
    onSkew: (byMs) =>
      byMs === 0
        ? logger.warn({}, 'the clocks of this machine and of the database agree again')
        : logger.error(
            { byMs },
            'the clocks of this machine and of the database are apart; the time of the database is used',
          ),
    onDoubt: (doubt, byMs) =>
      doubt === null ? logger.warn({}, 'the clock is believed again') : logger.error({ byMs }, doubts[doubt]),
  };
}

export function tellAhead(logger: Logger): (latest: Instant, aheadMs: number) => void {
  const message = 'the clock is far ahead of the time at which this database was last in use; stop if it is not right';
  return (latest, aheadMs) => logger.warn({ latest: dateOf(latest), aheadMs }, message);
}
