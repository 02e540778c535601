/**
 * Which nodes run on this database, as far as their limits depend on each other. A node holds its place by advisory locks
 * of its session: they are gone with the node, however that ends, and nothing has to be cleaned up.
 *
 * There are two locks. A node that counts alone holds one of them for itself, so there are two such nodes at most: one,
 * and in an update the node that replaces it. Nodes that count together share both locks, so none of the first kind can
 * run beside them.
 *
 * Two that count alone never admit the whole of a limit each. Finding no other node is believed for `BELIEVED_MS`; a node
 * that finds another waits that long before it starts.
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

/** How long after a count the next one begins. Of nodes that count together only an outage of Redis asks. */
const COUNT_AFTER_MS: Readonly<Record<Counting, number>> = { together: 5_000, alone: 1_000 };
/** Long enough for two counts that are late, short enough to wait for at a start. */
const BELIEVED_MS = 3_000;
/** Replacing a node takes less. Two that run beside each other for longer are not an update; each is told so this often. */
export const HANDOVER_MAX_MS: number = 15 * MINUTE_MS;
/** A session that is ended lets go of its locks in milliseconds. */
const END_SESSION_MS = 200;

const lockNumbers = (lock: number) => sql`${sql.raw(SCHEMA_NUMBER)}, ${sql.lit(lock)}`;
const FIRST = lockNumbers(ADVISORY_LOCKS.limits);
const SECOND = lockNumbers(ADVISORY_LOCKS.limitsSuccessor);

/** Rows of `pg_locks`, as `l`, that are places of nodes here. */
const PLACES = sql`l.locktype = 'advisory' and l.granted and l.objsubid = 2
  and l.database = (select oid from pg_database where datname = current_database())
  and l.classid = ${sql.raw(SCHEMA_NUMBER)}::oid
  and l.objid in (${sql.lit(ADVISORY_LOCKS.limits)}, ${sql.lit(ADVISORY_LOCKS.limitsSuccessor)})`;

/** Which session of the server it is. A process id alone is used again. */
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
  /** On which our place was taken last. */
  #session: SessionId | null = null;
  #count = 1;
  /** When the question was sent that `#count` answers. */
  #countedAtMs = 0;
  /** When to warn that two nodes run beside each other. */
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
      // From here on a new session takes the place again.
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

  /** The session is a new one: the place of the old one is lost with it. Nobody uses the connection before this is over. */
  async rejoin(connection: PostgresConnection): Promise<void> {
    if (this.#counting === null) return;
    const dialect = new PostgresDialect({ acquire: async () => connection, release: () => {} });
    const db = new Kysely<Tables>({ dialect });
    const hadPlace = this.#hasPlace;
    await endSession(db, this.#session);
    // Whoever took it meanwhile runs already. To stop here would help nobody.
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
      // On one connection: a new session in between would have taken the place by itself.
      await this.#db.connection().execute(async (db) => {
        if (!this.#hasPlace) await this.#take(db, counting);
        await this.#countOn(db);
      });
    } catch {
      // The last count stands for as long as it is believed: an outage of the database says nothing about other nodes.
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
 * Says on which session, too. A session that has a place keeps it: with a second one it would keep another node out. Each
 * `case` is there because it asks in this order and stops; `or` and `and` need not.
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
 * Ends a former session of this node that the server has not missed yet: it holds our own place. Only while it holds one:
 * behind a pooler it may be another's by now.
 */
async function endSession(db: Kysely<Tables>, session: SessionId | null): Promise<void> {
  if (session === null) return;
  try {
    await sql`
      select pg_terminate_backend(a.pid, ${sql.lit(END_SESSION_MS)}) from pg_stat_activity a
      where a.pid = ${session.pid} and a.pid <> pg_backend_pid() and extract(epoch from a.backend_start)::text = ${session.began}
        and exists (select from pg_locks l where l.pid = a.pid and ${PLACES})`.execute(db);
  } catch {
    // A role that may not: the server misses the session by itself. If the connection is what failed, the next step says so.
  }
}
