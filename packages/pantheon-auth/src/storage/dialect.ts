/**
 * The differences in SQL between SQLite and PostgreSQL, each with its reason. All other SQL in this folder runs on
 * both.
 */
import {
  type AliasableExpression,
  type ColumnDataType,
  type CreateTableBuilder,
  type Expression,
  type Kysely,
  type RawBuilder,
  type SqlBool,
  sql,
  type Transaction,
} from 'kysely';
import { invariant } from '../foundation/errors.ts';
import type { EventTableRow, Tables } from './tables.ts';

type ColumnType = ColumnDataType | RawBuilder<unknown>;

/** An event row before it gets its `seq`. */
export type EventWithoutSeq = Omit<EventTableRow, 'seq'>;

export interface SqlDialect {
  /** The names of the three column types. SQLite's strict tables allow few names, and PostgreSQL has no `blob`. */
  readonly columnTypes: {
    readonly text: ColumnType;
    readonly integer: ColumnType;
    readonly bytes: ColumnType;
  };
  /**
   * The table with the names of executed migrations. On PostgreSQL its name must not clash with tables of other
   * programs.
   */
  readonly migrationTable: string;
  /** Whether every table in the database belongs to this library. A PostgreSQL database may be shared. */
  readonly isOurDatabaseAlone: boolean;
  /** The schema of the tables, if the database has schemas. */
  schemaName(db: Kysely<Tables>): Promise<string | null>;
  /** Creates the schema if it is missing, and creates tables in it from then on. */
  makeSchema(transaction: Kysely<Tables>, name: string): Promise<void>;
  /** The names of all existing tables. */
  tableNames(db: Kysely<Tables>): Promise<readonly string[]>;
  /** Lets one node migrate at a time. On SQLite `begin immediate` already holds the only lock. */
  lockSchema(transaction: Kysely<Tables>): Promise<void>;
  /** Makes a table strict. SQLite stores any type in any column otherwise; PostgreSQL never does. */
  strict<T extends string, C extends string>(table: CreateTableBuilder<T, C>): CreateTableBuilder<T, C>;
  /** Creates triggers with which the log accepts only an event with the next `seq`, and no change. */
  makeLogAppendOnly(db: Kysely<unknown>): Promise<void>;
  /** For migrations: runs `fill`, which fills a new column of the events, with the append-only triggers disabled. */
  fillLogColumn(db: Kysely<unknown>, fill: () => Promise<void>): Promise<void>;
  /** Creates a trigger that refuses new keys without a tagged id, from processes of an older version that still run. */
  refuseUntaggedKeys(db: Kysely<unknown>): Promise<void>;
  /**
   * Advances the head and inserts the events (I3); returns the new head. From here to COMMIT it blocks other commits,
   * so PostgreSQL does all of it in one statement, which also notifies other nodes. SQLite needs several statements,
   * but no other process can write between them.
   */
  appendToLog(transaction: Transaction<Tables>, events: readonly EventWithoutSeq[]): Promise<number>;
  /** The time of the database server, if it can be another machine (I14); null on SQLite. */
  readonly storeNow: AliasableExpression<number | null>;
  /** The server that answers, identified by its start time; null on SQLite. */
  readonly serverNow: AliasableExpression<string | null>;
  /** The greater of two values: `max` in SQLite, `greatest` in PostgreSQL. */
  greater(a: Expression<number>, b: Expression<number>): Expression<number>;
  /**
   * Whether `column` contains `text`, folded as in `foundation/folded-text.ts`. Without `like`, so that no character
   * needs an escape.
   */
  containsText(column: Expression<string>, text: string): Expression<SqlBool>;
  /** Membership in a list of any length with one SQL text: an array parameter in PostgreSQL, JSON in SQLite. */
  isAmong(column: Expression<string>, values: readonly string[]): Expression<SqlBool>;
  /** The same for whole numbers. */
  isOneOfNumbers(column: Expression<number>, values: readonly number[]): Expression<SqlBool>;
  /** Locks rows that a transaction reads in order to change them. On SQLite `begin immediate` has done that. */
  lockRows<Q extends Lockable>(query: Q): Q;
  /** Locks rows that a transaction depends on until it ends. Waiting transactions are served in order. */
  holdRows<Q extends Lockable>(query: Q): Q;
}

interface Lockable {
  forUpdate(): unknown;
  forNoKeyUpdate(): unknown;
}

/** The id of the only row of the head, which is created with the table. */
export const LOG_HEAD_ID = 1;
/** Events per statement on SQLite, which bounds the length of the SQL and the number of parameters. */
const EVENTS_PER_STATEMENT = 50;

const REFUSE = sql`begin select raise(abort, 'the log is append-only'); end`;

export const sqlite: SqlDialect = {
  columnTypes: { text: 'text', integer: 'integer', bytes: 'blob' },
  migrationTable: 'kysely_migration',
  isOurDatabaseAlone: true,
  schemaName: async () => null,
  makeSchema: async () => {},
  async tableNames(db) {
    const { rows } = await sql<{ name: string }>`select name from sqlite_schema where type = 'table'`.execute(db);
    return rows.map((row) => row.name);
  },
  lockSchema: async () => {},
  strict: (table) => table.modifyEnd(sql`strict`),
  async makeLogAppendOnly(db) {
    await sql`create trigger events_no_update before update on events ${REFUSE}`.execute(db);
    await sql`create trigger events_no_delete before delete on events ${REFUSE}`.execute(db);
    // Also prevents `insert or replace`, which deletes without firing the trigger above.
    const next = sql`(select coalesce(max(seq), 0) + 1 from events)`;
    await sql`create trigger events_no_gap before insert on events when new.seq <> ${next} ${REFUSE}`.execute(db);
  },
  async fillLogColumn(db, fill) {
    await sql`drop trigger events_no_update`.execute(db);
    await fill();
    await sql`create trigger events_no_update before update on events ${REFUSE}`.execute(db);
  },
  async refuseUntaggedKeys(db) {
    await sql`
      create trigger api_keys_tagged before insert on api_keys when new.id_tag is null
      begin select raise(abort, 'the id of a new key has a tag'); end`.execute(db);
  },
  async appendToLog(transaction, events) {
    const head = await transaction
      .updateTable('log_head')
      .set((eb) => ({
        seq: eb('seq', '+', events.length),
        at: sqlite.greater(eb.ref('at'), eb.val(latestOf(events))),
      }))
      .where('id', '=', LOG_HEAD_ID)
      .returning('seq')
      .executeTakeFirst();
    invariant(head !== undefined, 'the log has a head');
    const before = head.seq - events.length;
    for (let at = 0; at < events.length; at += EVENTS_PER_STATEMENT) {
      const rows = events
        .slice(at, at + EVENTS_PER_STATEMENT)
        .map((event, index) => ({ seq: before + at + index + 1, ...event }));
      await transaction.insertInto('events').values(rows).execute();
    }
    return head.seq;
  },
  storeNow: sql<number | null>`null`,
  serverNow: sql<string | null>`null`,
  greater: (a, b) => sql<number>`max(${a}, ${b})`,
  // `lower` is replaced in `sqlite-functions.ts`: SQLite's own handles ASCII only.
  containsText: (column, text) => sql<SqlBool>`instr(lower(${column}), lower(${text})) > 0`,
  isAmong: (column, values) => sql<SqlBool>`${column} in (select value from json_each(${JSON.stringify(values)}))`,
  isOneOfNumbers: (column, values) =>
    sql<SqlBool>`${column} in (select value from json_each(${JSON.stringify(values)}))`,
  lockRows: (query) => query,
  holdRows: (query) => query,
};

/**
 * SQL for a number that identifies the schema. Advisory locks and notifications are shared by the whole database, and
 * two installations in it must not affect each other.
 */
export const SCHEMA_NUMBER = `hashtext('pantheon_auth.' || coalesce(current_schema(), ''))`;
/** SQL for the notification channel. Every commit notifies, so that other nodes read the head at once. */
export const LOG_CHANNEL: string = `'pantheon_auth_log_' || to_hex(${SCHEMA_NUMBER})`;
/** The second numbers of advisory locks. The first is {@link SCHEMA_NUMBER}. */
export const ADVISORY_LOCKS = { schema: 1, limits: 2, limitsSuccessor: 3 } as const;

export const postgresql: SqlDialect = {
  // Ordered by bytes, as on SQLite; the order of a language would also be slower.
  columnTypes: { text: sql`text collate "C"`, integer: 'bigint', bytes: 'bytea' },
  migrationTable: 'pantheon_auth_migration',
  isOurDatabaseAlone: false,
  async schemaName(db) {
    const { rows } = await sql<{ name: string | null }>`select current_schema() as name`.execute(db);
    return rows[0]?.name ?? null;
  },
  async makeSchema(transaction, name) {
    // Checked first, because a role that may not create schemas may still use one.
    const { rows } = await sql`select from pg_catalog.pg_namespace where nspname = ${name}`.execute(transaction);
    if (rows.length === 0) await sql`create schema ${sql.id(name)}`.execute(transaction);
  },
  async tableNames(db) {
    const { rows } = await sql<{ name: string }>`
      select tablename as name from pg_catalog.pg_tables where schemaname = current_schema()`.execute(db);
    return rows.map((row) => row.name);
  },
  async lockSchema(transaction) {
    await sql`select pg_advisory_xact_lock(${sql.raw(SCHEMA_NUMBER)}, ${sql.lit(ADVISORY_LOCKS.schema)})`.execute(
      transaction,
    );
  },
  strict: (table) => table,
  async makeLogAppendOnly(db) {
    await sql`
      create function pantheon_auth_refuse() returns trigger language plpgsql as
      $$ begin raise exception 'the log is append-only'; end $$`.execute(db);
    await sql`
      create function pantheon_auth_next_event() returns trigger language plpgsql as
      $$ begin
        if new.seq <> (select coalesce(max(seq), 0) + 1 from events) then
          raise exception 'the log is append-only';
        end if;
        return new;
      end $$`.execute(db);
    await sql`
      create trigger events_no_change before update or delete or truncate on events
      for each statement execute function pantheon_auth_refuse()`.execute(db);
    await sql`
      create trigger events_no_gap before insert on events
      for each row execute function pantheon_auth_next_event()`.execute(db);
  },
  async refuseUntaggedKeys(db) {
    await sql`
      create function pantheon_auth_refuse_untagged() returns trigger language plpgsql as
      $$ begin raise exception 'the id of a new key has a tag'; end $$`.execute(db);
    await sql`
      create trigger api_keys_tagged before insert on api_keys
      for each row when (new.id_tag is null) execute function pantheon_auth_refuse_untagged()`.execute(db);
  },
  async fillLogColumn(db, fill) {
    await sql`alter table events disable trigger events_no_change`.execute(db);
    await fill();
    await sql`alter table events enable trigger events_no_change`.execute(db);
  },
  async appendToLog(transaction, events) {
    const column = <C extends keyof EventWithoutSeq>(name: C): EventWithoutSeq[C][] =>
      events.map((event) => event[name]);
    const count = sql`${events.length}::bigint`;
    const { rows } = await sql<{ seq: number }>`
      with head as (
        update log_head set seq = seq + ${count}, at = greatest(at, ${latestOf(events)}::bigint)
        where id = ${sql.lit(LOG_HEAD_ID)} returning seq
      ), placed as (
        insert into events (seq, id, at, tenant_id, type, subject_type, subject_id, actor_key_id, body, leaf_random,
          leaf)
        select head.seq - ${count} + e.place, e.id, e.at, e.tenant_id, e.type, e.subject_type, e.subject_id,
          e.actor_key_id, e.body, e.leaf_random, e.leaf
        from head, unnest(
          ${column('id')}::text[], ${column('at')}::bigint[], ${column('tenant_id')}::text[], ${column('type')}::text[],
          ${column('subject_type')}::text[], ${column('subject_id')}::text[], ${column('actor_key_id')}::text[],
          ${column('body')}::text[],
          ${column('leaf_random')}::bytea[], ${column('leaf')}::bytea[]
        ) with ordinality
          as e(id, at, tenant_id, type, subject_type, subject_id, actor_key_id, body, leaf_random, leaf, place)
        order by e.place
      )
      select head.seq, pg_notify(${sql.raw(LOG_CHANNEL)}, '') from head`.execute(transaction);
    invariant(rows[0] !== undefined, 'the log has a head');
    return rows[0].seq;
  },
  storeNow: sql<number | null>`floor(extract(epoch from clock_timestamp()) * 1000)::bigint`,
  serverNow: sql<string | null>`extract(epoch from pg_postmaster_start_time())::text`,
  greater: (a, b) => sql<number>`greatest(${a}, ${b})`,
  // The collation of the columns is by bytes, in which `lower` handles ASCII only.
  containsText: (column, text) => sql<SqlBool>`strpos(${folded(column)}, ${folded(sql`${text}::text`)}) > 0`,
  isAmong: (column, values) => sql<SqlBool>`${column} = any(${values}::text[])`,
  isOneOfNumbers: (column, values) => sql<SqlBool>`${column} = any(${values}::bigint[])`,
  lockRows: (query) => query.forUpdate() as typeof query,
  // Exclusive and not shared: a sequence of shared locks could delay a change of the row forever.
  holdRows: (query) => query.forNoKeyUpdate() as typeof query,
};

/** As `foldText` of `foundation/folded-text.ts`. */
function folded(text: Expression<unknown>): RawBuilder<string> {
  const lower = sql`lower(normalize(${text}, NFC) collate "und-x-icu")`;
  return sql<string>`translate(normalize(${lower}, NFC), ${sql.lit('\u03c2')}, ${sql.lit('\u03c3')})`;
}

function latestOf(events: readonly EventWithoutSeq[]): number {
  return events.reduce((latest, event) => Math.max(latest, event.at), 0);
}
