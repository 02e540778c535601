/** Chance that can be repeated: one printed seed decides the plan of every operation and every fault of a run. */

const SEED_VARIABLE = 'PANTHEON_AUTH_FAULT_SEED';
const SEED_MAX = 2 ** 32;

/** The seed that was asked for, else a new one. Whoever uses it prints it. */
export function faultSeed(): number {
  const given = process.env[SEED_VARIABLE];
  if (given === undefined) return Math.floor(Math.random() * SEED_MAX);
  const seed = Number(given);
  if (!Number.isInteger(seed) || seed < 0 || seed >= SEED_MAX)
    throw new Error(`${SEED_VARIABLE} is a whole number below ${SEED_MAX}.`);
  return seed;
}

/** Mulberry32: small, fast, and good enough to plan with. */
export class Prng {
  readonly #seed: number;
  #state: number;

  constructor(seed: number) {
    this.#seed = seed >>> 0;
    this.#state = this.#seed;
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / SEED_MAX;
  }

  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.between(0, items.length - 1)];
    if (item === undefined) throw new Error('There is nothing to pick from.');
    return item;
  }

  /** Every item once, in an order of chance. */
  shuffled<T>(items: readonly T[]): readonly T[] {
    return items
      .map((item) => ({ item, at: this.next() }))
      .sort((a, b) => a.at - b.at)
      .map(({ item }) => item);
  }

  /** A source of its own for one worker, so that what the others do does not change what it plans. */
  fork(name: string): Prng {
    let hash = this.#seed;
    for (let at = 0; at < name.length; at += 1) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
    return new Prng(hash);
  }
}
