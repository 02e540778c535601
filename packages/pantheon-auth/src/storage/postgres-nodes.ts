/**
 * Which nodes run on this database, as far as their limits depend on each other. A node holds its place by an advisory
 * lock of its session: it is gone with the node, however that ends, and nothing has to be cleaned up.
 */
import { Kysely, sql } from 'kysely';
import { PantheonError } from '../foundation/errors.ts';
import type { NodeRegistry } from './database.ts';
import { ADVISORY_LOCKS, SCHEMA_NUMBER } from './dialect.ts';
import type { PostgresConnection } from './postgres-connection.ts';
import { PostgresDialect } from './postgres-dialect.ts';
import type { Tables } from './tables.ts';

/** How often the others are counted. Only an outage of Redis asks how many there are. */
const COUNT_EVERY_MS = 5_000;

const LOCK = sql`${sql.raw(SCHEMA_NUMBER)}, ${sql.lit(ADVISORY_LOCKS.limits)}`;

export class PostgresNodes implements NodeRegistry {
  readonly #db: Kysely<Tables>;
  readonly #onWarning: (warning: string) => void;
  #counting: 'together' | 'alone' | null = null;
  #hasPlace = false;
  #count = 1;
  #timer: NodeJS.Timeout | null = null;

  /** @param db on the session of this node. */
  constructor(db: Kysely<Tables>, onWarning: (warning: string) => void) {
    this.#db = db;
    this.#onWarning = onWarning;
  }

  async join(counting: 'together' | 'alone'): Promise<void> {
    if (!(await takePlace(this.#db, counting))) throw new PantheonError('redis_required');
    this.#counting = counting;
    this.#hasPlace = true;
    await this.#recount();
    this.#timer = setInterval(() => void this.#recount(), COUNT_EVERY_MS);
    this.#timer.unref();
  }

  count(): number {
    return this.#count;
  }

  /** The session is a new one: the place of the old one is lost with it. */
  async rejoin(connection: PostgresConnection): Promise<void> {
    if (this.#counting === null) return;
    const dialect = new PostgresDialect({ acquire: async () => connection, release: () => {} });
    await this.#take(new Kysely<Tables>({ dialect }));
  }

  /** The place may still be held by our own session of before, which the server has not missed yet; or by another node. */
  async #take(db: Kysely<Tables>): Promise<void> {
    if (this.#counting === null) return;
    const hadPlace = this.#hasPlace;
    this.#hasPlace = await takePlace(db, this.#counting);
    // Whoever took it meanwhile runs already. To stop here would help nobody.
    if (hadPlace && !this.#hasPlace)
      this.#onWarning('another node may count limits apart from this one: each admits the whole of every limit');
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  async #recount(): Promise<void> {
    try {
      if (!this.#hasPlace) await this.#take(this.#db);
      const { rows } = await sql<{ count: number }>`
        select count(*) as count from pg_locks
        where locktype = 'advisory' and granted and objsubid = 2
          and database = (select oid from pg_database where datname = current_database())
          and classid = ${sql.raw(SCHEMA_NUMBER)}::oid and objid = ${sql.lit(ADVISORY_LOCKS.limits)}`.execute(this.#db);
      this.#count = Math.max(1, rows[0]?.count ?? 1);
    } catch {
      // The last count stands: an outage of the database says nothing about the other nodes.
    }
  }
}

/** Those who count together share the lock, and who counts alone has it alone. */
async function takePlace(db: Kysely<Tables>, counting: 'together' | 'alone'): Promise<boolean> {
  const { rows } = await (counting === 'alone'
    ? sql<{ taken: boolean }>`select pg_try_advisory_lock(${LOCK}) as taken`
    : sql<{ taken: boolean }>`select pg_try_advisory_lock_shared(${LOCK}) as taken`
  ).execute(db);
  return rows[0]?.taken === true;
}
