/**
 * The registry of nodes on this database, for dividing rate limits. A node registers with advisory locks of its
 * session, which are released when the node ends in any way.
 *
 * There are two locks. A node that counts alone holds one of them exclusively, so there are at most two such nodes:
 * one, and during an update its replacement. Nodes that count in Redis hold both locks shared, so no node that counts
 * alone can run beside them.
 *
 * Two nodes that count alone never both admit the whole of a limit. A count without another node is valid for
 * `BELIEVED_MS`; a node that finds another waits that long before it starts.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Kysely, sql } from 'kysely';
import { type Clock, MINUTE_MS } from '../../foundation/clock.ts';
import { PantheonError } from '../../foundation/errors.ts';
import type { NodeRegistry } from '../database.ts';
import { ADVISORY_LOCKS, SCHEMA_NUMBER } from '../dialect.ts';
import type { Tables } from '../tables.ts';
import type { PostgresConnection } from './postgres-connection.ts';
import { PostgresDialect } from './postgres-dialect.ts';

type Counting = 'together' | 'alone';

/** The wait between two counts. Nodes that count in Redis need the count only during an outage. */
const COUNT_AFTER_MS: Readonly<Record<Counting, number>> = { together: 5_000, alone: 1_000 };
/** Long enough for two late counts, short enough to wait for at a start. */
const BELIEVED_MS = 3_000;
/** Longer than replacing a node takes. After this time, and again after each such time, both nodes log a warning. */
export const HANDOVER_MAX_MS: number = 15 * MINUTE_MS;
/** The wait for an ended session to release its locks. */
const END_SESSION_MS = 200;

const lockNumbers = (lock: number) => sql`${sql.raw(SCHEMA_NUMBER)}, ${sql.lit(lock)}`;
const FIRST = lockNumbers(ADVISORY_LOCKS.limits);
const SECOND = lockNumbers(ADVISORY_LOCKS.limitsSuccessor);

/** SQL condition for rows of `pg_locks`, as `l`, that are registrations of nodes here. */
const PLACES = sql`l.locktype = 'advisory' and l.granted and l.objsubid = 2
  and l.database = (select oid from pg_database where datname = current_database())
  and l.classid = ${sql.raw(SCHEMA_NUMBER)}::oid
  and l.objid in (${sql.lit(ADVISORY_LOCKS.limits)}, ${sql.lit(ADVISORY_LOCKS.limitsSuccessor)})`;

/** Identifies a session of the server. Process ids alone are reused. */
interface SessionId {
  readonly pid: number;
  readonly began: string;
}

export class PostgresNodes implements NodeRegistry {
  readonly #db: Kysely<Tables>;
  readonly #clock: Clock;
  readonly #onWarning: (warning: string) => void;
  #counting: Counting | null = null;
  #hasPlace = false;
  /** The session of the last registration. */
  #session: SessionId | null = null;
  #count = 1;
  /** When the query for `#count` was sent. */
  #countedAtMs = 0;
  /** When to warn next that two nodes run beside each other. */
  #warnAtMs: number | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  /** @param db on the session of this node. */
  constructor(db: Kysely<Tables>, context: { readonly clock: Clock; readonly onWarning: (warning: string) => void }) {
    this.#db = db;
    this.#clock = context.clock;
    this.#onWarning = context.onWarning;
  }

  async join(counting: Counting): Promise<void> {
    await this.#db.connection().execute(async (db) => {
      if (!(await this.#take(db, counting))) throw new PantheonError('redis_required');
      // From here on a new session registers again.
      this.#counting = counting;
      await this.#countOn(db);
    });
    this.#countLater(counting);
    if (counting === 'alone' && this.#count > 1) await pause(BELIEVED_MS);
  }

  count(): number {
    const isBelieved = this.#clock.monotonicMs() - this.#countedAtMs <= BELIEVED_MS;
    return this.#counting !== 'alone' || isBelieved ? this.#count : Math.max(2, this.#count);
  }

  /** Registers again on a new session, before the connection is used for anything else. */
  async rejoin(connection: PostgresConnection): Promise<void> {
    if (this.#counting === null) return;
    const dialect = new PostgresDialect({ acquire: async () => connection, release: () => {} });
    const db = new Kysely<Tables>({ dialect });
    const hadPlace = this.#hasPlace;
    await endSession(db, this.#session);
    // Other nodes have registered meanwhile. Stopping this node would not help.
    if (!(await this.#take(db, this.#counting)) && hadPlace)
      this.#onWarning('this node lost its place to nodes that count limits apart from it, while PostgreSQL was away');
    await this.#countOn(db);
  }

  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #countLater(counting: Counting): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => void this.#recount(counting), COUNT_AFTER_MS[counting]);
    this.#timer.unref();
  }

  async #recount(counting: Counting): Promise<void> {
    try {
      // On one connection, because a new session would register by itself.
      await this.#db.connection().execute(async (db) => {
        if (!this.#hasPlace) await this.#take(db, counting);
        await this.#countOn(db);
      });
    } catch {
      // After an error the last count stays valid for its time.
    }
    this.#countLater(counting);
  }

  async #take(db: Kysely<Tables>, counting: Counting): Promise<boolean> {
    const { isTaken, ...session } = await acquireNodeLock(db, counting);
    this.#session = session;
    this.#hasPlace = isTaken;
    return isTaken;
  }

  async #countOn(db: Kysely<Tables>): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    this.#count = 1 + (await countOthers(db));
    this.#countedAtMs = nowMs;
    if (this.#counting === 'alone') this.#warnOfLongHandover(nowMs);
  }

  #warnOfLongHandover(nowMs: number): void {
    if (this.#count === 1) {
      this.#warnAtMs = null;
      return;
    }
    this.#warnAtMs ??= nowMs + HANDOVER_MAX_MS;
    if (nowMs < this.#warnAtMs) return;
    this.#warnAtMs = nowMs + HANDOVER_MAX_MS;
    this.#onWarning(
      `${this.#count} nodes have counted limits by themselves on this database for more than ${HANDOVER_MAX_MS / MINUTE_MS} minutes: ` +
        'each admits its share of every rate limit only. Stop all but one, or give all of them the same Redis',
    );
  }
}

/**
 * Registers, and returns the session. A session that is already registered takes no second lock, which would block
 * another node. `case` is used because it evaluates in order and stops; `or` and `and` need not.
 */
async function acquireNodeLock(
  db: Kysely<Tables>,
  counting: Counting,
): Promise<SessionId & { readonly isTaken: boolean }> {
  const tried =
    counting === 'alone'
      ? sql`when pg_try_advisory_lock(${FIRST}) then true else pg_try_advisory_lock(${SECOND})`
      : // Both or none: one alone would keep a place from whoever may have it.
        sql`when not pg_try_advisory_lock_shared(${FIRST}) then false
          when pg_try_advisory_lock_shared(${SECOND}) then true else not pg_advisory_unlock_shared(${FIRST})`;
  const { rows } = await sql<SessionId & { isTaken: boolean }>`
    select pid, extract(epoch from backend_start)::text as began,
      case when exists (select from pg_locks l where ${PLACES} and l.pid = pg_backend_pid()) then true ${tried} end as "isTaken"
    from pg_stat_activity where pid = pg_backend_pid()`.execute(db);
  const [row] = rows;
  if (row === undefined) throw new PantheonError('store_unavailable', { detail: 'The session is not known.' });
  return row;
}

async function countOthers(db: Kysely<Tables>): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(distinct l.pid) as count from pg_locks l where ${PLACES} and l.pid <> pg_backend_pid()`.execute(db);
  return rows[0]?.count ?? 0;
}

/**
 * Ends a former session of this node that the server has not noticed as closed and that still holds our lock. Only
 * while it holds one, because behind a pooler the session may belong to somebody else by now.
 */
async function endSession(db: Kysely<Tables>, session: SessionId | null): Promise<void> {
  if (session === null) return;
  try {
    await sql`
      select pg_terminate_backend(a.pid, ${sql.lit(END_SESSION_MS)}) from pg_stat_activity a
      where a.pid = ${session.pid} and a.pid <> pg_backend_pid() and extract(epoch from a.backend_start)::text = ${session.began}
        and exists (select from pg_locks l where l.pid = a.pid and ${PLACES})`.execute(db);
  } catch {
    // Without the privilege, the server notices by itself. If the connection failed, the next step reports it.
  }
}
