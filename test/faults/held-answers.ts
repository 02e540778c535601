/**
 * Finds, among the bytes that a node sends to PostgreSQL, the requests that ask one question, and holds back what is
 * answered to them. A text is sent once per connection and later only named, so names are learned as they pass.
 */
import type { FaultProxy, HeldAnswer } from '../../tools/servers/fault-proxy.ts';

/** Where the log stands, as a node asks about ten times a second; and one key that it does not remember. */
export type Question = 'head' | 'key';

const TEXTS: Readonly<Record<Question, RegExp>> = {
  head: /^select .*from "log_head" as "h"/s,
  key: /^select .*from "api_keys" as "k".*"k"\."id" = \$1/s,
};
/** A prepared statement: its name and its text, each ended by a zero. */
const NAMED_TEXT = /(pantheon_auth_\d+)\0([^\0]+)\0/g;

export class HeldAnswers {
  readonly #proxy: FaultProxy;
  readonly #names: Record<Question, string | null> = { head: null, key: null };

  constructor(proxy: FaultProxy) {
    this.#proxy = proxy;
    // Catches nothing, for as long as the proxy runs.
    proxy.holdNextAnswer((toServer) => {
      this.#learn(toServer);
      return false;
    });
  }

  /** From now on every answer to this question stays away, on its connection with all that follows. @returns its end. */
  hold(question: Question): () => void {
    const held: HeldAnswer[] = [];
    let isOver = false;
    const holdNext = (): void => {
      if (isOver) return;
      const next = this.#proxy.holdNextAnswer((toServer) => this.#asks(toServer, question));
      held.push(next);
      void next.caught.then(holdNext);
    };
    holdNext();
    return () => {
      isOver = true;
      for (const one of held) one.release();
    };
  }

  #learn(toServer: Buffer): void {
    for (const [, name, text] of toServer.toString('latin1').matchAll(NAMED_TEXT)) {
      for (const question of ['head', 'key'] as const) {
        if (name !== undefined && text !== undefined && TEXTS[question].test(text)) this.#names[question] = name;
      }
    }
  }

  #asks(toServer: Buffer, question: Question): boolean {
    const name = this.#names[question];
    return name !== null && toServer.includes(`\0${name}\0`, 0, 'latin1');
  }
}
