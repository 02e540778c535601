/**
 * Every difference between the databases that our SQL can meet, each named with its reason. All other SQL in this
 * folder is written so that both SQLite and PostgreSQL run it. Only SQLite exists today.
 */
import { type CreateTableBuilder, type Expression, type Kysely, type SqlBool, sql } from 'kysely';

export interface SqlDialect {
  /** The names of our three column types. SQLite's strict tables know few names, PostgreSQL has none for `blob`. */
  readonly columnTypes: { readonly text: 'text'; readonly integer: 'integer' | 'bigint'; readonly bytes: 'blob' };
  /** SQLite stores any type in any column unless the table is strict; elsewhere every table is. */
  strict<T extends string, C extends string>(table: CreateTableBuilder<T, C>): CreateTableBuilder<T, C>;
  /** Triggers are written differently everywhere. After these, the log takes the event with the next `seq` and nothing else. */
  makeLogAppendOnly(db: Kysely<unknown>): Promise<void>;
  /** The greater of two: `max` with two arguments in SQLite, `greatest` elsewhere. */
  greater(a: Expression<number>, b: Expression<number>): Expression<number>;
  /** Whether `text` lies in `column`, whatever the case. Not `like`: there is then no character that needs an escape. */
  containsText(column: Expression<string>, text: string): Expression<SqlBool>;
  /** Membership in a list of any length under one SQL text: an array parameter elsewhere, JSON in SQLite. */
  isAmong(column: Expression<string>, values: readonly string[]): Expression<SqlBool>;
  /** Locks the rows that a transaction read to write. `begin immediate` has done that in SQLite. */
  lockRows<Q>(query: Q): Q;
}

export const sqlite: SqlDialect = {
  columnTypes: { text: 'text', integer: 'integer', bytes: 'blob' },
  strict: (table) => table.modifyEnd(sql`strict`),
  async makeLogAppendOnly(db) {
    const refuse = sql`begin select raise(abort, 'the log is append-only'); end`;
    await sql`create trigger events_no_update before update on events ${refuse}`.execute(db);
    await sql`create trigger events_no_delete before delete on events ${refuse}`.execute(db);
    // Also what keeps `insert or replace` out, which deletes without asking the trigger above.
    const next = sql`(select coalesce(max(seq), 0) + 1 from events)`;
    await sql`create trigger events_no_gap before insert on events when new.seq <> ${next} ${refuse}`.execute(db);
  },
  greater: (a, b) => sql<number>`max(${a}, ${b})`,
  // `lower` of the reader is ours (database.ts): SQLite's own knows ASCII only.
  containsText: (column, text) => sql<SqlBool>`instr(lower(${column}), lower(${text})) > 0`,
  isAmong: (column, values) => sql<SqlBool>`${column} in (select value from json_each(${JSON.stringify(values)}))`,
  lockRows: (query) => query,
};
