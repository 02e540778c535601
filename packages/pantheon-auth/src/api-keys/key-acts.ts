/**
 * Finds in the log which keys a key created, rotated, updated or resumed, and for which it had tokens issued. Whoever
 * stole that key may have the secrets or tokens of these keys or may have widened their permissions. `acted-on-keys.ts`
 * decides what to do with them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type EventType, type EventTypeOf, isEventType } from '../domain/event-data.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { ActQuery, ActOnKey as LoggedAct } from '../events/event-rows.ts';
import type { TurnKey } from '../foundation/fair-queue.ts';
import type { ReadTurns } from '../foundation/read-turns.ts';

/** What one key did to another, as named in the API. Actions that only restrict a key are not included. */
export type ActOnKey = 'created' | 'rotated' | 'secret_replaced' | 'updated' | 'resumed' | 'token_issued';

const ACT_OF: Readonly<Record<EventTypeOf<'key'>, ActOnKey | null>> = {
  'key.created': 'created',
  'key.updated': 'updated',
  'key.suspended': null,
  'key.resumed': 'resumed',
  'key.revoked': null,
  'key.rotated': 'rotated',
  // It gives the version before it, whose secret the thief may have, a longer life.
  'key.rolled_back': 'rotated',
  'key.version_retired': null,
  'key.secret_replaced': 'secret_replaced',
  'key.tokens_revoked': null,
  'key.exposed_in_url': null,
  'key.exposed_in_text': null,
  'key.dates_corrected': null,
  'key.token_issued': 'token_issued',
  'key.expiring': null,
  'key.rotation_due': null,
  'key.rotation_reminded': null,
  'key.rotation_overdue': null,
  'key.rotation_completed': null,
};
const ACTS: ReadonlyMap<EventType, ActOnKey> = new Map(
  Object.entries(ACT_OF).flatMap(([type, act]) => (isEventType(type) && act !== null ? [[type, act] as const] : [])),
);

/** Events per read: about a millisecond, after which the event loop continues. */
const EVENTS_PER_READ = 500;
/** The most events read per call, which bounds memory for a key that acted for years. */
export const ACTS_READ_MAX = 50_000;

/** A key that was acted on. */
export interface TouchedKey {
  readonly keyId: string;
  readonly tenantId: string;
  readonly did: ReadonlySet<ActOnKey>;
  /** The `seq` and time of the latest token issued for it. Null: none was. */
  readonly tokenIssued: TokenIssued | null;
}

export type TokenIssued = Pick<LoggedAct, 'seq' | 'at'>;

export interface Touched {
  /** In the order in which they were first acted on. */
  readonly keys: readonly TouchedKey[];
  /** Whether the list is complete. */
  readonly isComplete: boolean;
}

interface Trail {
  readonly tenantId: string;
  readonly did: Set<ActOnKey>;
  tokenIssued: TokenIssued | null;
  /** The `seq` after which the actions of this key count as well. Infinity: never. */
  followedFrom: number;
}

export class KeyActs {
  readonly #events: EventCodec;
  readonly #readTurns: ReadTurns;

  constructor(deps: { readonly events: EventCodec; readonly readTurns: ReadTurns }) {
    this.#events = deps.events;
    this.#readTurns = deps.readTurns;
  }

  /**
   * The keys that this key acted on, and those that they acted on in turn: through `all` of them, or only through keys
   * that were `created`. Of a key that was acted on, only its later actions count, because before that its holder was
   * trusted.
   */
  async of(keyId: string, follow: 'all' | 'created', reader: TurnKey): Promise<Touched> {
    const trails = new Map<string, Trail>();
    const waiting: { readonly actorKeyId: string; readonly from: number }[] = [{ actorKeyId: keyId, from: 0 }];
    let left = ACTS_READ_MAX;
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { actorKeyId, from } = next;
      for (let after: number | null = from; after !== null; ) {
        if (left <= 0) return { keys: named(trails), isComplete: false };
        const query: ActQuery = { actorKeyId, types: [...ACTS.keys()], after, limit: EVENTS_PER_READ };
        const acts: readonly LoggedAct[] = await this.#readTurns.run(reader, undefined, () =>
          this.#events.actsOnKeys(query),
        );
        left -= EVENTS_PER_READ;
        for (const act of acts) {
          const did = ACTS.get(act.type);
          if (did === undefined || act.keyId === keyId) continue;
          const trail = trailOf(trails, act.keyId, act.tenantId);
          trail.did.add(did);
          if (did === 'token_issued') trail.tokenIssued = laterOf(trail.tokenIssued, act);
          const isFollowed = (follow === 'all' || did === 'created') && act.seq < trail.followedFrom;
          if (!isFollowed) continue;
          trail.followedFrom = act.seq;
          waiting.push({ actorKeyId: act.keyId, from: act.seq });
        }
        after = acts.length < EVENTS_PER_READ ? null : (acts.at(-1)?.seq ?? null);
        await nextTurn();
      }
    }
    return { keys: named(trails), isComplete: true };
  }
}

function trailOf(trails: Map<string, Trail>, keyId: string, tenantId: string): Trail {
  const known = trails.get(keyId);
  if (known !== undefined) return known;
  const followedFrom = Number.POSITIVE_INFINITY;
  const trail: Trail = { tenantId, did: new Set<ActOnKey>(), tokenIssued: null, followedFrom };
  trails.set(keyId, trail);
  return trail;
}

/** Actors are read one after the other, so an earlier event of another actor may be read later. */
function laterOf(known: TokenIssued | null, { seq, at }: TokenIssued): TokenIssued {
  return known !== null && known.seq > seq ? known : { seq, at };
}

function named(trails: ReadonlyMap<string, Trail>): readonly TouchedKey[] {
  return Array.from(trails, ([keyId, { tenantId, did, tokenIssued }]) => ({ keyId, tenantId, did, tokenIssued }));
}
