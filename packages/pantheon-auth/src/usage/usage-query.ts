/** Reads usage: counts by outcome per minute, hour or day (UTC). Sums are computed when usage is stored. */
import { type Clock, DAY_MS, type Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { UsageRows, UsageStep, UsageSum } from './usage-rows.ts';
import { STEP_MS, stepOf, USAGE_KEPT_MS, USAGE_RANGE_MAX_MS } from './usage-steps.ts';

export type UsageGranularity = UsageStep;

/** Steps per read: at most a few thousand small rows. */
const STEPS_PER_READ = 240;
/** The last time that a JavaScript `Date` can represent. */
const INSTANT_MAX = 8_640_000_000_000_000;

export interface UsageRequest {
  readonly tenantId: string;
  /** Null: all keys of the tenant. */
  readonly keyId: string | null;
  /** Inclusive; rounded down to the start of its step. */
  readonly from: Instant;
  /** Exclusive; rounded up to the end of its step. */
  readonly to: Instant;
  readonly granularity: UsageGranularity;
}

export interface UsageItem {
  readonly from: Instant;
  readonly outcomes: Readonly<Record<string, number>>;
}

/** Ordered by time. Steps without uses have no item. */
export interface UsageReport {
  readonly items: readonly UsageItem[];
}

/** Reads usage of one key or of a whole tenant. */
export class UsageQueryService {
  readonly #rows: UsageRows;
  readonly #clock: Clock;

  constructor(deps: { readonly rows: UsageRows; readonly clock: Clock }) {
    this.#rows = deps.rows;
    this.#clock = deps.clock;
  }

  /**
   * @throws PantheonError `invalid_request` with advice, when the range is empty, longer than its granularity allows,
   * or begins before the counts of that granularity are kept. The reason of `signal`.
   */
  async report(request: UsageRequest, signal?: AbortSignal): Promise<UsageReport> {
    const { tenantId, keyId, granularity: step } = request;
    checkRange(request, this.#clock.now());
    const end = Math.ceil(request.to / STEP_MS[step]) * STEP_MS[step];
    const spanMs = STEPS_PER_READ * STEP_MS[step];
    const items: UsageItem[] = [];
    for (let from = stepOf(request.from, step); from < end; from += spanMs) {
      signal?.throwIfAborted();
      const sums = await this.#rows.sums({ tenantId, keyId, step, from, to: Math.min(from + spanMs, end) });
      for (const item of itemsOf(sums)) items.push(item);
    }
    return { items };
  }
}

/** Groups sums by step; they are ordered by step. */
function itemsOf(sums: readonly UsageSum[]): readonly UsageItem[] {
  const steps = new Map<Instant, [outcome: string, count: number][]>();
  for (const { from, outcome, count } of sums) {
    const outcomes = steps.get(from);
    if (outcomes === undefined) steps.set(from, [[outcome, count]]);
    else outcomes.push([outcome, count]);
  }
  return [...steps].map(([from, outcomes]) => ({ from, outcomes: Object.fromEntries(outcomes) }));
}

function checkRange({ from, to, granularity }: UsageRequest, now: Instant): void {
  for (const [field, at] of [
    ['from', from],
    ['to', to],
  ] as const) {
    if (!Number.isSafeInteger(at) || at < 0 || at > INSTANT_MAX) throw invalid(field, 'It is not a moment.');
  }
  if (to <= from) throw invalid('to', 'It must be later than `from`.');
  const coarser = COARSER[granularity];
  const remedy = coarser === null ? 'Ask for a part of it' : `Ask for granularity ${coarser}, or for a part of it`;
  const rangeMaxDays = USAGE_RANGE_MAX_MS[granularity] / DAY_MS;
  if (to - from > USAGE_RANGE_MAX_MS[granularity])
    throw invalid('granularity', `By ${granularity}, at most ${rangeMaxDays} days are answered at once. ${remedy}.`);
  // Counts older than those by day are deleted for every granularity, so there is no better one to suggest.
  if (coarser === null || from >= stepOf(now - USAGE_KEPT_MS[granularity], granularity)) return;
  const keptDays = USAGE_KEPT_MS[granularity] / DAY_MS;
  const detail = `Counts by ${granularity} are kept for ${keptDays} days. Ask for granularity ${coarser}, or a later from.`;
  throw invalid('granularity', detail);
}

const COARSER: Readonly<Record<UsageGranularity, UsageGranularity | null>> = { minute: 'hour', hour: 'day', day: null };

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
