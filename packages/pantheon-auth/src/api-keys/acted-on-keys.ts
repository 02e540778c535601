/**
 * Reports the keys that revoked keys acted on, and with `cascade: 'acted'` revokes them too. If only tokens were issued
 * for a key, only its tokens are revoked. `key-acts.ts` finds these keys; the caller revokes them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ACCESS_TOKEN_LIFETIME_MAX_SECONDS, LEEWAY_SECONDS_MAX } from '../domain/claims.ts';
import { type Clock, MINUTE_MS, SECOND_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';
import type { ActOnKey, KeyActs, TokenIssued, TouchedKey } from './key-acts.ts';
import type { KeyChanges } from './key-changes.ts';

/** A key that a revoked key acted on. */
export interface ActedOnKey {
  readonly keyId: string;
  readonly tenantId: string;
  readonly did: readonly ActOnKey[];
  /** Whether this call revoked it. If false, its secret may have leaked, or its permissions may be too wide. */
  readonly revoked: boolean;
  /** Whether this call revoked the tokens issued for it so far: together with the key, or alone. */
  readonly tokensRevoked: boolean;
}

/** The keys that the revoked keys acted on, returned by a revocation with `cascade`. */
export interface ActedOn {
  /** Those that were not revoked, or had tokens that were not, at most {@link ACTED_ON_NAMED_MAX}. */
  readonly items: readonly ActedOnKey[];
  /**
   * Whether the cascade and the list are complete. If not, there were too many keys for one call: handle these keys, then
   * repeat the call, or read the events of the key.
   */
  readonly complete: boolean;
}

/** The most keys reported, and revoked, by one call: about 50 kB of JSON, and some seconds of commits. */
export const ACTED_ON_NAMED_MAX = 500;
/** How often the log is read, each time after the keys found before were revoked. After that the call is not complete. */
export const LOOKS_MAX = 10;
/** No token is accepted this long after it was issued. The `iat` of a token may be some seconds ahead. */
const TOKEN_OVER_AFTER_MS: number = (ACCESS_TOKEN_LIFETIME_MAX_SECONDS + LEEWAY_SECONDS_MAX) * SECOND_MS + MINUTE_MS;

type Taken = Pick<ActedOnKey, 'revoked' | 'tokensRevoked'>;
const AS_IT_IS: Taken = { revoked: false, tokensRevoked: false };

/** One revocation with `cascade`. */
export interface Cascading {
  readonly keyId: string;
  /** The queue position of its reads. */
  readonly reader: TurnKey;
  /** Whether the keys are revoked, or only reported. */
  readonly isTaking: boolean;
  /** The keys that this call has revoked. */
  readonly gone: ReadonlySet<string>;
  /** Whether the time of the call is over. */
  readonly isOver: () => boolean;
  /** Whether the caller may see the key. */
  readonly isWithin: (key: TouchedKey) => boolean;
  /** Each returns whether it did so. Neither revokes what the caller uses, nor the last administrator. */
  readonly revoke: (key: TouchedKey) => Promise<boolean>;
  readonly revokeTokens: (key: TouchedKey) => Promise<boolean>;
}

export class ActedOnKeys {
  readonly #changes: KeyChanges;
  readonly #acts: KeyActs;
  readonly #clock: Clock;

  constructor(deps: { readonly changes: KeyChanges; readonly acts: KeyActs; readonly clock: Clock }) {
    this.#changes = deps.changes;
    this.#acts = deps.acts;
    this.#clock = deps.clock;
  }

  /**
   * A key may act between the reading of the log and its revocation. So the log is read again until it contains no more
   * keys to revoke.
   */
  async of(call: Cascading): Promise<ActedOn> {
    const items = new Map<string, ActedOnKey>();
    const answer = (complete: boolean): ActedOn => ({ items: [...items.values()], complete });
    for (let look = 1; look <= LOOKS_MAX; look += 1) {
      const touched = await this.#acts.of(call.keyId, call.isTaking ? 'all' : 'created', call.reader);
      let isAnyTaken = false;
      for (const key of touched.keys) {
        await nextTurn();
        if (call.isOver()) return answer(false);
        const known = items.get(key.keyId);
        if (!call.isWithin(key) || isDealtWith(key, known, call) || !(await this.#isAlive(key, call.reader))) continue;
        if (known === undefined && items.size === ACTED_ON_NAMED_MAX) return answer(false);
        const taken = call.isTaking ? await this.#take(key, call) : AS_IT_IS;
        items.set(key.keyId, { keyId: key.keyId, tenantId: key.tenantId, did: [...key.did], ...taken });
        if (taken.tokensRevoked) isAnyTaken = true;
      }
      if (!isAnyTaken) return answer(touched.isComplete);
    }
    return answer(false);
  }

  async #take(key: TouchedKey, call: Cascading): Promise<Taken> {
    if (!isOfTokensOnly(key)) {
      const revoked = await call.revoke(key);
      return { revoked, tokensRevoked: revoked };
    }
    return { revoked: false, tokensRevoked: await call.revokeTokens(key) };
  }

  /** Whether the key, or a token that was issued for it, may still be accepted. */
  async #isAlive(key: TouchedKey, reader: TurnKey): Promise<boolean> {
    const { tenantId, keyId, tokenIssued } = key;
    if (!(await this.#isKeyAlive(key, reader))) return false;
    return !isOfTokensOnly(key) || tokenIssued === null || this.#isTokenAlive(tenantId, keyId, tokenIssued);
  }

  async #isTokenAlive(tenantId: string, keyId: string, { seq, at }: TokenIssued): Promise<boolean> {
    if (this.#clock.now() >= at + TOKEN_OVER_AFTER_MS) return false;
    return (await this.#changes.tokensRevokedAt(tenantId, keyId)) < seq;
  }

  async #isKeyAlive({ tenantId, keyId }: TouchedKey, reader: TurnKey): Promise<boolean> {
    try {
      return (await this.#changes.load(tenantId, keyId, reader, 'protective')).record.state.kind !== 'revoked';
    } catch (error) {
      if (!(error instanceof PantheonError)) throw error;
      // A damaged key counts as not revoked.
      if (error.code === 'key_quarantined' || error.code === 'tenant_quarantined') return true;
      if (error.code === 'not_found') return false;
      throw error;
    }
  }
}

/** A key that could not be revoked is not tried again. After its tokens were revoked, new ones may have been issued. */
function isDealtWith(key: TouchedKey, known: ActedOnKey | undefined, { gone }: Cascading): boolean {
  if (gone.has(key.keyId)) return true;
  return known !== undefined && !known.tokensRevoked && known.did.length === key.did.size;
}

function isOfTokensOnly({ did }: TouchedKey): boolean {
  return did.size === 1 && did.has('token_issued');
}
