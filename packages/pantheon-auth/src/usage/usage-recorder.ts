/**
 * Counts uses in memory and stores them in the background, without delaying or failing verifications. The buffer, and
 * what it drops when full, is in `usage-buffer.ts`.
 */
import { type Clock, type Instant, SECOND_MS } from '../foundation/clock.ts';
import { LATE, withinMs } from '../foundation/deadline.ts';
import { newId } from '../foundation/ids.ts';
import {
  ADDRESSES_PER_VERSION_MAX,
  type OutcomeTotal,
  USAGE_ENTRIES_MAX,
  UsageBuffer,
  type UsageTally,
} from './usage-buffer.ts';
import {
  type PendingUsage,
  ROWS_AT_ONCE_MAX,
  type UsageBatch,
  type UsageOutcome,
  type UsageRows,
} from './usage-rows.ts';

/** The interval of storing counts and of retries. A crash loses at most the counts of this time (I13). */
export const FLUSH_AFTER_MS: number = SECOND_MS;

export interface UsageRecorderDeps {
  readonly rows: UsageRows;
  readonly clock: Clock;
  /** Called for each failed attempt; the batch is kept and retried. Must not throw. */
  readonly onError: (error: unknown) => void;
  /** Entries in one buffer, {@link USAGE_ENTRIES_MAX} unless a test fills it. */
  readonly entriesMax?: number;
}

/** One use of a key version. */
export interface UsageSample {
  readonly tenantId: string;
  readonly keyId: string;
  readonly version: number;
  readonly outcome: UsageOutcome;
  readonly address: string | null;
  readonly at: Instant;
}

/** A buffer that is being stored, with its current batch. */
interface Draining {
  readonly buffer: UsageBuffer;
  batch: UsageBatch | null;
}

export class UsageRecorder {
  readonly #deps: UsageRecorderDeps;
  readonly #totals = new Map<UsageOutcome, OutcomeTotal>();
  #buffer: UsageBuffer;
  /** A failed batch stays here with its id until it is stored, so that a retry is counted once. */
  #draining: Draining | null = null;
  /** Something was recorded that the run under way may not have taken along. */
  #isFlushWanted = false;
  #run: Promise<boolean> | null = null;
  #storing: Promise<boolean> | null = null;
  #storingSinceMs = 0;
  #storesBegun = 0;
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;
  #droppedCount = 0;

  constructor(deps: UsageRecorderDeps) {
    this.#deps = deps;
    this.#buffer = this.#newBuffer();
  }

  /** Uses that found no room while the store was away, or came after {@link close}. They are in {@link totals} all the same. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  /** Counts one use. Does not wait and does not throw. */
  record(use: UsageSample): void {
    const { outcome } = use;
    const tally = this.#tallyOf(use.tenantId, use.keyId, use.version);
    if (tally === null || !tally.add(outcome, use.address, use.at)) this.#drop(outcome);
  }

  /** Counts an outcome of no key (malformed, unknown): for the metrics only, as there is nobody to charge it to. */
  recordUnmatched(outcome: UsageOutcome): void {
    this.#totalOf(outcome).total += 1;
  }

  /** Outcomes since the start of the process, including those without a key. */
  totals(): ReadonlyMap<UsageOutcome, number> {
    return new Map([...this.#totals].map(([outcome, { total }]) => [outcome, total]));
  }

  /** The batch that is being stored. Never rejects. */
  get storing(): Promise<boolean> | null {
    return this.#storing;
  }

  /**
   * Waits for the batch that is being stored, until its storing has taken `msMax`. False: it has, so that many callers
   * wait no longer than one. Never rejects.
   */
  async endOfStoring(msMax: number): Promise<boolean> {
    if (this.#storing === null) return true;
    const leftMs = this.#storingSinceMs + msMax - this.#deps.clock.monotonicMs();
    if (leftMs <= 0) return false;
    return (await withinMs(leftMs, this.#storing, this.#deps.clock.timers)) !== LATE;
  }

  /** How many times storing a batch has begun. */
  get storesBegun(): number {
    return this.#storesBegun;
  }

  /**
   * Uses of a key that are not stored yet, by version. Ask before reading what is stored, so that none is missing. Those
   * of a batch that is stored in between are counted twice: {@link storing} and {@link storesBegun} show that.
   */
  pendingOf(keyId: string): readonly PendingUsage[] {
    const waiting = this.#draining?.buffer.usesOf(keyId) ?? [];
    const recent = this.#buffer.usesOf(keyId);
    const isSame = (one: PendingUsage, other: PendingUsage): boolean =>
      one.version === other.version && one.tenantId === other.tenantId;
    const untouched = waiting.filter((older) => !recent.some((newer) => isSame(older, newer)));
    return [
      ...untouched,
      ...recent.map((newer) => {
        const older = waiting.find((use) => isSame(use, newer));
        return older === undefined ? newer : added(older, newer);
      }),
    ];
  }

  /** Stores all that was recorded before the call. False when the store failed: it is kept and tried again. */
  flush(): Promise<boolean> {
    this.#isFlushWanted = true;
    this.#run ??= this.#store();
    return this.#run;
  }

  /** The last flush. What comes later is dropped and counted as such; after a false, {@link flush} may be called again. */
  async close(): Promise<boolean> {
    this.#isClosed = true;
    this.#disarm();
    return await this.flush();
  }

  async #store(): Promise<boolean> {
    // The caller may be in the middle of a verification, and SQLite stores before it answers: that comes first.
    await null;
    let isFolded = false;
    try {
      for (;;) {
        if (this.#draining !== null) {
          this.#storingSinceMs = this.#deps.clock.monotonicMs();
          this.#storing = this.#storeBatch(this.#draining);
          const isStored = await this.#storing;
          this.#storing = null;
          if (!isStored) return false;
        } else if (this.#isFlushWanted) {
          this.#isFlushWanted = false;
          this.#replaceBuffer();
          isFolded = false;
        } else if (!isFolded) {
          // What is asked for meanwhile is stored in the next round.
          await this.#foldVersions();
          isFolded = true;
        } else return true;
      }
    } finally {
      // Here and not in a later microtask: a flush asked for in between would join a run that has already ended.
      this.#run = null;
    }
  }

  /** Stores one batch of what is draining, and finds the end of it. False when the store failed. */
  async #storeBatch(draining: Draining): Promise<boolean> {
    if (draining.buffer.isEmpty) {
      this.#draining = null;
      return true;
    }
    draining.batch ??= draining.buffer.nextBatch(newId(), this.#deps.clock.now());
    this.#storesBegun += 1;
    try {
      await this.#deps.rows.store(draining.batch);
    } catch (error) {
      this.#arm();
      this.#deps.onError(error);
      return false;
    }
    draining.buffer.forget(draining.batch);
    draining.batch = null;
    return true;
  }

  /** By the node that stored the first use of a version: only it knows of the key. A little each time; the rest comes later. */
  async #foldVersions(): Promise<void> {
    try {
      if (await this.#deps.rows.foldVersions(ROWS_AT_ONCE_MAX)) this.#arm();
    } catch (error) {
      // All uses are stored; the next flush tries again.
      this.#deps.onError(error);
    }
  }

  #tallyOf(tenantId: string, keyId: string, version: number): UsageTally | null {
    if (this.#isClosed) return null;
    this.#arm();
    return this.#buffer.tallyOf(tenantId, keyId, version);
  }

  #drop(outcome: UsageOutcome): void {
    this.#droppedCount += 1;
    this.#totalOf(outcome).total += 1;
  }

  #totalOf(outcome: UsageOutcome): OutcomeTotal {
    const known = this.#totals.get(outcome);
    if (known !== undefined) return known;
    const made = { total: 0 };
    this.#totals.set(outcome, made);
    return made;
  }

  #newBuffer(): UsageBuffer {
    return new UsageBuffer({
      entriesMax: this.#deps.entriesMax ?? USAGE_ENTRIES_MAX,
      totalOf: (outcome) => this.#totalOf(outcome),
      onFull: () => {
        // Replaced at once where it can be, so that detail is given up only while the store is slow or away.
        if (this.#draining === null) this.#replaceBuffer();
        void this.flush();
      },
    });
  }

  #replaceBuffer(): void {
    this.#draining = { buffer: this.#buffer, batch: null };
    this.#buffer = this.#newBuffer();
  }

  #arm(): void {
    if (this.#timer !== null || this.#isClosed) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.flush();
    }, FLUSH_AFTER_MS);
    this.#timer.unref();
  }

  #disarm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function added(older: PendingUsage, newer: PendingUsage): PendingUsage {
  return {
    ...newer,
    count: older.count + newer.count,
    lastUsedAt: Math.max(older.lastUsedAt, newer.lastUsedAt),
    addresses: [...new Set([...newer.addresses, ...older.addresses])].slice(0, ADDRESSES_PER_VERSION_MAX),
  };
}
