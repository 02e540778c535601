/** The parts opened so far, which are closed in reverse order, also when a start fails. */
type Close = () => void | Promise<void>;

export class OpenedParts {
  readonly #closes: Close[] = [];

  add(close: Close): void {
    this.#closes.push(close);
  }

  /** Closes all parts also when one fails, then throws the first error. A second call does nothing. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (const close of this.#closes.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
