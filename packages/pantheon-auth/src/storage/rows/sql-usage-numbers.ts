/**
 * SQL for the numbers of usage, of which any may be damaged. One statement stores and reads the usage of many keys, so a
 * damaged number must fail none: each is read, and replaced by the next addition, as a sound one.
 */
import { type Expression, type RawBuilder, sql } from 'kysely';
import { COUNT_MAX } from '../../usage/usage-rows.ts';

/**
 * What a damaged count is read as. A row is only written when there was a use, and a version that was used must not be
 * taken for an unused one: its secret could be claimed again.
 */
const COUNT_OF_DAMAGED = 1;
/** What is stored for a time that is not known. */
export const UNKNOWN_TIME = 0;
/** Up to the year 275760, the last that a `Date` can say. */
const INSTANT_MAX = 8_640_000_000_000_000;

/** A stored count, or 1 if it is damaged. */
export function soundCount(stored: Expression<number>): RawBuilder<number> {
  const isSound = sql`${stored} between 0 and ${sql.lit(COUNT_MAX)}`;
  return sql<number>`case when ${isSound} then ${stored} else ${sql.lit(COUNT_OF_DAMAGED)} end`;
}

/** A stored count with more added, at most {@link COUNT_MAX}. `more`: a count of this process. */
export function countPlus(stored: Expression<number>, more: Expression<number>): RawBuilder<number> {
  const room = sql`${sql.lit(COUNT_MAX)} - ${more}`;
  return sql<number>`case when ${soundCount(stored)} > ${room} then ${sql.lit(COUNT_MAX)}
    else ${soundCount(stored)} + ${more} end`;
}

/** The sum of stored counts, at most {@link COUNT_MAX}: up to there a sum of floating-point numbers is exact, and it never overflows. */
export function sumOfCounts(stored: Expression<number>): RawBuilder<number> {
  const sum = sql`sum(cast(${soundCount(stored)} as double precision))`;
  return sql<number>`cast(case when ${sum} > ${sql.lit(COUNT_MAX)} then ${sql.lit(COUNT_MAX)} else ${sum} end as bigint)`;
}

/** A stored time, or null if it is damaged or {@link UNKNOWN_TIME}. */
export function soundTime(stored: Expression<number>): RawBuilder<number | null> {
  return sql<
    number | null
  >`case when ${stored} between ${sql.lit(UNKNOWN_TIME + 1)} and ${sql.lit(INSTANT_MAX)} then ${stored} end`;
}

/** The later of a stored time and one of this process, which replaces a damaged one. */
export function laterTime(stored: Expression<number>, other: Expression<number>): RawBuilder<number> {
  return sql<number>`case when ${stored} between ${other} and ${sql.lit(INSTANT_MAX)} then ${stored} else ${other} end`;
}
