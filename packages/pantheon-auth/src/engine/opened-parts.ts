/** What has been opened so far, to be closed in reverse: at the end, and also when a start fails in the middle. */
type Close = () => void | Promise<void>;

export class OpenedParts {
  readonly #closes: Close[] = [];

  add(close: Close): void {
    this.#closes.push(close);
  }

  /** Goes on with the next when one fails, and throws the first error at the end. Closing twice does nothing. */
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
