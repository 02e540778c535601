/**
 * One direction of a proxied connection: a queue of bytes between two sockets, which can be held and delayed. Order is kept
 * always, nothing is lost, and an end or a reset waits its turn like the bytes before it.
 */
import type { Socket } from 'node:net';

/** What one lane keeps in memory; past it the sender is no longer read and its own buffers fill, as on a real network. */
const QUEUE_BYTES_MAX = 1024 * 1024;

type Item = { readonly dueMs: number } & (
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'end' | 'reset' }
);

export interface LaneRules {
  /** Whether nothing may pass now. */
  readonly held: () => boolean;
  readonly delayMs: () => number;
  /** Sees each piece once, as it comes in; returns what goes on. */
  readonly pass: (bytes: Buffer) => Buffer;
}

export class FaultLane {
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #rules: LaneRules;
  #queue: Item[] = [];
  #queuedBytes = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(source: Socket, sink: Socket, rules: LaneRules) {
    this.#source = source;
    this.#sink = sink;
    this.#rules = rules;
    source.on('data', (chunk: Buffer) => {
      const bytes = rules.pass(chunk);
      if (bytes.length > 0) this.#add({ kind: 'bytes', bytes, dueMs: this.#dueMs() });
    });
    source.on('end', () => this.#add({ kind: 'end', dueMs: this.#dueMs() }));
    source.on('error', () => undefined); // 'close' follows and says all there is to say.
    source.on('close', (failed) => {
      if (failed) this.#add({ kind: 'reset', dueMs: this.#dueMs() });
    });
    sink.on('drain', () => this.pump());
    sink.on('close', () => {
      if (this.#timer !== null) clearTimeout(this.#timer);
      this.#queue = [];
    });
  }

  /** Sends on what may go. Called again whenever the rules have changed. */
  pump(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    while (!this.#rules.held() && !this.#sink.writableNeedDrain) {
      const next = this.#queue[0];
      if (next === undefined) break;
      const waitMs = next.dueMs - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.pump(), waitMs);
        break;
      }
      this.#queue.shift();
      if (next.kind === 'bytes') {
        this.#queuedBytes -= next.bytes.length;
        if (this.#sink.writable) this.#sink.write(next.bytes);
      } else if (next.kind === 'end') this.#sink.end();
      else reset(this.#sink);
    }
    if (this.#queuedBytes < QUEUE_BYTES_MAX) this.#source.resume();
    else this.#source.pause();
  }

  #add(item: Item): void {
    this.#queue.push(item);
    if (item.kind === 'bytes') this.#queuedBytes += item.bytes.length;
    this.pump();
  }

  #dueMs(): number {
    return performance.now() + this.#rules.delayMs();
  }
}

/** Ends a connection so that the other side sees a reset. One that is not yet made has no other side; one that was ended takes no reset. */
export function reset(socket: Socket): void {
  if (socket.connecting || socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
