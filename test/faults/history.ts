/**
 * What every client did and saw, on one clock: all clients live in this process. It only records; what must hold of the
 * record is `check-history.ts`.
 */

export type ChangeKind = 'create' | 'revoke' | 'suspend' | 'resume' | 'rotate';
export type OperationKind = ChangeKind | 'verify';

export type Outcome =
  /** A verification: it may act. */
  | { readonly kind: 'yes' }
  /** A verification: it may not, and why. */
  | { readonly kind: 'no'; readonly code: string }
  /** A change: acknowledged. */
  | { readonly kind: 'done' }
  /** The request was refused: a change was not made, or the caller was turned away. */
  | { readonly kind: 'refused'; readonly status: number; readonly code: string }
  /** 503: no verdict. A change may have been made all the same. */
  | { readonly kind: 'unavailable'; readonly code: string }
  /** There was no answer. A change may have been made, or may still be. */
  | { readonly kind: 'unknown' };

export interface OperationRequest {
  readonly client: string;
  readonly node: string;
  readonly op: OperationKind;
  /** Empty: a creation that was not answered. */
  readonly keyId: string;
}

/** What is known only from the answer. */
export interface Told {
  readonly keyId?: string;
  readonly settled?: boolean;
}

export interface Operation extends OperationRequest {
  /** It was answered as one after which no node acts on the old state. */
  readonly settled: boolean;
  readonly invokedAtMs: number;
  /** When this process saw the answer. Null: there was none. */
  readonly returnedAtMs: number | null;
  /**
   * The answer did not arrive before this moment. Equal to the moment it was seen, but for what this process was late:
   * the age of a yes is measured from here, so that a busy test machine makes no node look stale.
   */
  readonly arrivedAfterMs: number;
  readonly outcome: Outcome;
}

/** How often this process notes that it looks at its sockets. */
const TICK_MS = 5;

export class History {
  readonly #operations: Operation[] = [];
  readonly #timer: NodeJS.Timeout;
  #lastTickMs = performance.now();
  /** What arrived before this tick was seen before the last one: the sockets were looked at between the two. */
  #tickBeforeMs = this.#lastTickMs;

  constructor() {
    this.#timer = setInterval(() => {
      this.#tickBeforeMs = this.#lastTickMs;
      this.#lastTickMs = performance.now();
    }, TICK_MS);
    this.#timer.unref();
  }

  get operations(): readonly Operation[] {
    return this.#operations;
  }

  /** A place in the record, for {@link since}. */
  mark(): number {
    return this.#operations.length;
  }

  since(mark: number): readonly Operation[] {
    return this.#operations.slice(mark);
  }

  nowMs(): number {
    return performance.now();
  }

  /** Call it before the request is sent, and what it gives when the answer has come, or will not. */
  begin(request: OperationRequest): (outcome: Outcome, told?: Told) => Operation {
    const invokedAtMs = this.nowMs();
    return (outcome, told = {}) => {
      const seenAtMs = this.nowMs();
      const operation: Operation = {
        ...request,
        keyId: told.keyId ?? request.keyId,
        settled: told.settled ?? false,
        invokedAtMs,
        returnedAtMs: outcome.kind === 'unknown' ? null : seenAtMs,
        arrivedAfterMs: Math.max(invokedAtMs, this.#tickBeforeMs),
        outcome,
      };
      this.#operations.push(operation);
      return operation;
    };
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
