/**
 * Orders loads of the same facts that run at once: a slower, older load must not replace what a newer one has read.
 */
export class LoadOrder {
  #begun = 0;
  #accepted = 0;

  /** The number of a load that begins now, before it reads. */
  begin(): number {
    this.#begun += 1;
    return this.#begun;
  }

  /** Whether what this load has read may replace what is known: no newer load was accepted. If so, it is accepted. */
  accepts(load: number): boolean {
    if (load < this.#accepted) return false;
    this.#accepted = load;
    return true;
  }
}
