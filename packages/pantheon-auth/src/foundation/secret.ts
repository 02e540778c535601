/** A string that must not be seen: it prints as `[secret]` wherever something prints it. */

export class Secret {
  readonly #value: string;

  private constructor(value: string) {
    this.#value = value;
  }

  static of(value: string): Secret {
    return new Secret(value);
  }

  /** The only way to the value. Each call is worth a look in a review. */
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
    // What Node's inspector asks an object for (`util.inspect.custom`).
    const custom = Symbol.for('nodejs.util.inspect.custom');
    Object.defineProperty(Secret.prototype, custom, { value: () => '[secret]' });
  }
}
