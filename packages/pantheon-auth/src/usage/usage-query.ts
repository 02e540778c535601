/** Rolls stored usage up for reading: counts by outcome per minute, hour or day of UTC. */
import { DAY_MS, HOUR_MS, type Instant, MINUTE_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { UsageCount, UsageRows } from './usage-rows.ts';

/** The steps usage can be read in, with the length of each. A day of UTC always has 24 hours. */
export const GRANULARITY_MS: Readonly<Record<UsageGranularity, number>> = {
  minute: MINUTE_MS,
  hour: HOUR_MS,
  day: DAY_MS,
};

export type UsageGranularity = 'minute' | 'hour' | 'day';

/** The longest range that may be asked for: at most 1 440 items in one answer, more than any chart can show. */
export const USAGE_RANGE_MAX_MS: Readonly<Record<UsageGranularity, number>> = {
  minute: DAY_MS,
  hour: 31 * DAY_MS,
  day: 366 * DAY_MS,
};

/** Read at a time, whatever the range: what one read holds in memory, and how long SQLite keeps the event loop. */
const READ_SPAN_MS: number = DAY_MS;
/** The last moment a date of JavaScript can name. */
const INSTANT_MAX = 8_640_000_000_000_000;

export interface UsageRequest {
  readonly tenantId: string;
  /** Null for all keys of the tenant. */
  readonly keyId: string | null;
  /** Inclusive; taken back to the start of its step. */
  readonly from: Instant;
  /** Exclusive; taken on to the end of its step. */
  readonly to: Instant;
  readonly granularity: UsageGranularity;
}

export interface UsageItem {
  readonly from: Instant;
  readonly outcomes: Readonly<Record<string, number>>;
}

/** In order of time. A step in which nothing happened has no item. */
export interface UsageReport {
  readonly items: readonly UsageItem[];
}

/** Reads usage of one key or of a whole tenant. */
export class UsageQueryService {
  readonly #rows: UsageRows;

  constructor(rows: UsageRows) {
    this.#rows = rows;
  }

  /** @throws PantheonError `invalid_request` that names the field, when the range is empty or longer than its granularity allows. */
  async report(request: UsageRequest): Promise<UsageReport> {
    const { tenantId, keyId, granularity } = request;
    checkRange(request);
    const stepMs = GRANULARITY_MS[granularity];
    const end = Math.ceil(request.to / stepMs) * stepMs;
    const sum = new UsageSum(stepMs);
    for (let from = stepOf(request.from, stepMs); from < end; from += READ_SPAN_MS) {
      sum.add(await this.#rows.counts({ tenantId, keyId, from, to: Math.min(from + READ_SPAN_MS, end) }));
    }
    return sum.report();
  }
}

/** Adds counts up by step and outcome. The sum over all items is the sum over all counts. */
export function rollUp(counts: Iterable<UsageCount>, granularity: UsageGranularity): UsageReport {
  const sum = new UsageSum(GRANULARITY_MS[granularity]);
  sum.add(counts);
  return sum.report();
}

class UsageSum {
  readonly #stepMs: number;
  readonly #steps = new Map<Instant, Map<string, number>>();

  constructor(stepMs: number) {
    this.#stepMs = stepMs;
  }

  add(counts: Iterable<UsageCount>): void {
    for (const { minute, outcome, count } of counts) {
      const from = stepOf(minute, this.#stepMs);
      const outcomes = this.#steps.get(from) ?? new Map<string, number>();
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + count);
      this.#steps.set(from, outcomes);
    }
  }

  report(): UsageReport {
    const steps = [...this.#steps].sort(([one], [other]) => one - other);
    return { items: steps.map(([from, outcomes]) => ({ from, outcomes: Object.fromEntries(outcomes) })) };
  }
}

function stepOf(at: Instant, stepMs: number): Instant {
  return Math.floor(at / stepMs) * stepMs;
}

function checkRange({ from, to, granularity }: UsageRequest): void {
  for (const [field, at] of [
    ['from', from],
    ['to', to],
  ] as const) {
    if (!Number.isSafeInteger(at) || at < 0 || at > INSTANT_MAX) throw invalid(field, 'it is not a moment');
  }
  if (to <= from) throw invalid('to', 'it must be later than from');
  const rangeMax = USAGE_RANGE_MAX_MS[granularity];
  if (to - from > rangeMax)
    throw invalid('from', `by ${granularity}, at most ${rangeMax / DAY_MS} days can be read at once`);
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
