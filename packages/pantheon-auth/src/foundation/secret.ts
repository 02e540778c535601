/** A string that is not shown: logs, JSON, errors and the inspector print it as `[secret]`. */

export class Secret {
  readonly #value: string;

  private constructor(value: string) {
    this.#value = value;
  }

  static of(value: string): Secret {
    return new Secret(value);
  }

  /** The only way to read the value. Reviews should check each call. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  static {
    // The method that Node's inspector calls (`util.inspect.custom`).
    const custom = Symbol.for('nodejs.util.inspect.custom');
    Object.defineProperty(Secret.prototype, custom, { value: () => '[secret]' });
  }
}
