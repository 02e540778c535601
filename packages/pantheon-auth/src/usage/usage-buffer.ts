/**
 * Usage in memory, summed by key version, minute and outcome, in bounded memory (I11). Storing it and retrying batches
 * is in `usage-recorder.ts`.
 */
import { type Instant, MINUTE_MS } from '../foundation/clock.ts';
import type { PendingUsage, UsageBatch, UsageCount, UsageOutcome } from './usage-rows.ts';

/**
 * Counts and addresses in one buffer. The first count of a key takes about 600 bytes, what follows less: at most 60 MB,
 * and twice that while one buffer waits for the store. A second of traffic fills it only when as many keys are used in it.
 */
export const USAGE_ENTRIES_MAX = 100_000;
/** What a record shows as `lastAddresses`: enough to notice a stranger, too few to trace a person's day. */
export const ADDRESSES_PER_VERSION_MAX = 5;
/** The longest text of an IPv6 address has 45 characters, and a zone may follow. Anything longer is no address and is not kept. */
export const ADDRESS_LENGTH_MAX = 64;
/** Counts in one batch: one transaction of a few milliseconds, so that a full buffer never stops the event loop for long. */
export const BATCH_COUNTS_MAX = 1_000;

/** How often an outcome was met since the start of the process. Shared by every count of that outcome. */
export interface OutcomeTotal {
  total: number;
}

/** One count of a key version. Those within [from, to) are added without a search. */
interface Cell {
  readonly outcome: UsageOutcome;
  readonly overall: OutcomeTotal;
  readonly minute: Instant;
  from: Instant;
  to: Instant;
  count: number;
}

/** What a buffer needs of its owner. */
export interface UsageBufferDeps {
  readonly entriesMax: number;
  totalOf(outcome: UsageOutcome): OutcomeTotal;
  /** Called when the last entry is used. The buffer then drops detail, unless it is replaced. */
  onFull(): void;
}

/** The level of detail that is kept. It is reduced step by step when there is no room. */
type Detail = 'everything' | 'no_addresses' | 'no_minutes';

export class UsageBuffer {
  readonly #deps: UsageBufferDeps;
  readonly #byKey = new Map<string, UsageTally[]>();
  #entries = 0;
  #detail: Detail = 'everything';

  constructor(deps: UsageBufferDeps) {
    this.#deps = deps;
  }

  get isEmpty(): boolean {
    return this.#byKey.size === 0;
  }

  get keepsMinutes(): boolean {
    return this.#detail !== 'no_minutes';
  }

  /** The tally of this key version, or null when there is no room for another. */
  tallyOf(tenantId: string, keyId: string, version: number): UsageTally | null {
    const tallies = this.#byKey.get(keyId);
    if (tallies !== undefined) {
      for (const tally of tallies) if (tally.version === version && tally.tenantId === tenantId) return tally;
    }
    // Asked before the tally is made: one without a count would be memory that nothing bounds.
    if (!this.makeRoom()) return null;
    const tally = new UsageTally(this, tenantId, keyId, version);
    if (tallies === undefined) this.#byKey.set(keyId, [tally]);
    else tallies.push(tally);
    return tally;
  }

  /** Whether one more entry fits, after dropping as much detail as needed. */
  makeRoom(): boolean {
    while (this.#entries >= this.#deps.entriesMax) {
      if (this.#detail === 'no_minutes') return false;
      this.#detail = this.#detail === 'everything' ? 'no_addresses' : 'no_minutes';
      let entries = 0;
      for (const tallies of this.#byKey.values()) {
        for (const tally of tallies) entries += tally.giveUp(this.keepsMinutes ? 'addresses' : 'minutes');
      }
      this.#entries = entries;
    }
    return true;
  }

  /** Takes an entry for a new count. Only after {@link makeRoom}. */
  newCell(outcome: UsageOutcome, minute: Instant): Cell {
    const span = this.keepsMinutes ? { from: minute, to: minute + MINUTE_MS } : ALL_TIME;
    const cell: Cell = { outcome, overall: this.#deps.totalOf(outcome), minute, ...span, count: 0 };
    this.#took();
    return cell;
  }

  /** Whether one more address may be kept. Addresses are the first to be given up, so they never push anything out. */
  takeAddress(): boolean {
    if (this.#detail !== 'everything' || this.#entries >= this.#deps.entriesMax) return false;
    this.#took();
    return true;
  }

  usesOf(keyId: string): PendingUsage[] {
    return usesOf(this.#byKey.get(keyId) ?? []);
  }

  /** The next keys to store, whole, with at most {@link BATCH_COUNTS_MAX} counts unless one key alone has more. */
  nextBatch(id: string, at: Instant): UsageBatch {
    const counts: UsageCount[] = [];
    const uses: PendingUsage[] = [];
    for (const tallies of this.#byKey.values()) {
      const added = tallies.flatMap((tally) => tally.counts());
      if (counts.length > 0 && counts.length + added.length > BATCH_COUNTS_MAX) break;
      counts.push(...added);
      uses.push(...usesOf(tallies));
    }
    return { id, at, counts, uses };
  }

  /** Forgets the keys of a batch. What still holds a tally of this buffer then holds no other key's memory. */
  forget(batch: UsageBatch): void {
    for (const { keyId } of batch.counts) this.#byKey.delete(keyId);
  }

  #took(): void {
    this.#entries += 1;
    if (this.#entries === this.#deps.entriesMax) this.#deps.onFull();
  }
}

const ALL_TIME = { from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY } as const;

/** The uses of one key version in one buffer. */
export class UsageTally {
  readonly buffer: UsageBuffer;
  readonly tenantId: string;
  readonly keyId: string;
  readonly version: number;
  #cells: Cell[] = [];
  /** The one added to last: traffic mostly repeats itself within a minute. */
  #cell: Cell | null = null;
  #uses = 0;
  #lastUsedAt: Instant = 0;
  /** Newest first. */
  #addresses: string[] = [];

  constructor(buffer: UsageBuffer, tenantId: string, keyId: string, version: number) {
    this.buffer = buffer;
    this.tenantId = tenantId;
    this.keyId = keyId;
    this.version = version;
  }

  /** Adds one use; false when there is no room to count it. */
  add(outcome: UsageOutcome, address: string | null, at: Instant): boolean {
    let cell = this.#cell;
    if (cell === null || cell.outcome !== outcome || at < cell.from || at >= cell.to) {
      cell = this.#cellFor(outcome, at);
      if (cell === null) return false;
      this.#cell = cell;
    }
    cell.count += 1;
    cell.overall.total += 1;
    if (outcome === 'valid') {
      this.#uses += 1;
      if (at > this.#lastUsedAt) this.#lastUsedAt = at;
      if (address !== null && address !== this.#addresses[0]) this.#saw(address);
    }
    return true;
  }

  counts(): UsageCount[] {
    const { tenantId, keyId, version } = this;
    return this.#cells.map(({ minute, outcome, count }) => ({ tenantId, keyId, version, minute, outcome, count }));
  }

  /** The valid uses, or null when there were none. */
  use(): PendingUsage | null {
    if (this.#uses === 0) return null;
    const { tenantId, keyId, version } = this;
    const addresses = [...this.#addresses];
    return { tenantId, keyId, version, count: this.#uses, lastUsedAt: this.#lastUsedAt, addresses };
  }

  /** Makes room; answers how many entries it still holds. */
  giveUp(what: 'addresses' | 'minutes'): number {
    this.#addresses = [];
    if (what === 'minutes') {
      const byOutcome = new Map<UsageOutcome, Cell>();
      for (const cell of this.#cells) {
        const first = byOutcome.get(cell.outcome);
        if (first !== undefined) first.count += cell.count;
        // The first minute stands for all: an outage then shows as one mark where it began.
        else byOutcome.set(cell.outcome, Object.assign(cell, ALL_TIME));
      }
      this.#cells = [...byOutcome.values()];
      this.#cell = null;
    }
    return this.#cells.length;
  }

  #cellFor(outcome: UsageOutcome, at: Instant): Cell | null {
    const known = this.#find(outcome, at);
    if (known !== undefined) return known;
    const hasRoom = this.buffer.makeRoom();
    // Making room may have merged the minutes, so that there is one to join after all: two for one minute would collide.
    const merged = this.#find(outcome, at);
    if (merged !== undefined || !hasRoom) return merged ?? null;
    const made = this.buffer.newCell(outcome, Math.floor(at / MINUTE_MS) * MINUTE_MS);
    this.#cells.push(made);
    return made;
  }

  /** Searched from the end: what changes is nearly always the outcome within the current minute. */
  #find(outcome: UsageOutcome, at: Instant): Cell | undefined {
    return this.#cells.findLast((cell) => cell.outcome === outcome && at >= cell.from && at < cell.to);
  }

  #saw(address: string): void {
    if (address.length > ADDRESS_LENGTH_MAX) return;
    const addresses = this.#addresses;
    let at = addresses.indexOf(address);
    if (at === -1) {
      if (addresses.length < ADDRESSES_PER_VERSION_MAX && !this.buffer.takeAddress()) return;
      at = Math.min(addresses.length, ADDRESSES_PER_VERSION_MAX - 1);
    }
    // Moved by hand: a key behind several proxies comes here with every use, and splice costs three times as much.
    for (; at > 0; at -= 1) addresses[at] = addresses[at - 1] ?? address;
    addresses[0] = address;
  }
}

function usesOf(tallies: readonly UsageTally[]): PendingUsage[] {
  return tallies.map((tally) => tally.use()).filter((use) => use !== null);
}
