/**
 * A database without an engine, for tests of the storage. The project of the run decides which database it is; almost every
 * test runs on both. With an engine: `test-engine.ts`.
 */
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as pause } from 'node:timers/promises';
import { inject } from 'vitest';
import { type Clock, systemClock } from '../src/foundation/clock.ts';
import type { Database } from '../src/storage/database.ts';
import { postgres } from '../src/storage/postgres/postgres.ts';
import { isBusy } from '../src/storage/sqlite/sqlite-errors.ts';
import { openScratchDatabase as openScratchFile } from '../src/testing/scratch-database.ts';
import { type PostgresScratch, scratchPostgres } from './postgres-scratch.ts';
import type {} from './postgres-template.ts';

export type { PostgresScratch } from './postgres-scratch.ts';

export const STORE: 'sqlite' | 'postgres' = inject('store');

export interface ScratchDatabase extends AsyncDisposable {
  readonly db: Database;
  /** The path of the file, or the URL. */
  readonly location: string;
  /** The SQL text of every statement since the database was opened. */
  readonly statements: string[];
  /** Another node on the same database, as another process would have it. Closed with the first. */
  openAgain(): Promise<Database>;
  /** Runs a statement past every node. `?` stands for a value, `?1` for the first. */
  sql(text: string, ...values: readonly SqlValue[]): Promise<Record<string, unknown>[]>;
}

export type SqlValue = string | number | Uint8Array | null;

/** Opens an empty database of the test's own. Use it with `await using`. */
export async function openScratchDatabase(options: { readonly clock?: Clock } = {}): Promise<ScratchDatabase> {
  if (STORE === 'postgres') return openScratchPostgres(await scratchPostgres('empty'), options.clock ?? systemClock);
  const scratch = await openScratchFile(options);
  return {
    db: scratch.db,
    location: scratch.path,
    statements: scratch.statements,
    openAgain: () => scratch.openAgain(),
    sql: (text, ...values) => inFile(scratch.path, text, values),
    [Symbol.asyncDispose]: () => scratch[Symbol.asyncDispose](),
  };
}

/** What a new connection asks before anything else; not a statement of whoever waits for it. */
const HANDSHAKE_SQL = /server_version_num/;

async function openScratchPostgres(scratch: PostgresScratch, clock: Clock): Promise<ScratchDatabase> {
  const statements: string[] = [];
  const onStatement = (sql: string): void => {
    if (!HANDSHAKE_SQL.test(sql)) statements.push(sql);
  };
  const opened: Database[] = [];
  const open = async (watch?: (sql: string) => void): Promise<Database> => {
    const source = postgres({ url: scratch.url, ...(watch !== undefined && { onStatement: watch }) });
    const db = await source.open({ clock, onWarning: () => {} });
    opened.push(db);
    return db;
  };
  return {
    db: await open(onStatement),
    location: scratch.url,
    statements,
    openAgain: () => open(),
    sql: (text, ...values) => scratch.sql(text, ...values),
    async [Symbol.asyncDispose]() {
      for (const db of opened) await db.close();
      await scratch[Symbol.asyncDispose]();
    },
  };
}

/**
 * Changes the log past every node, which its triggers refuse. They are restored afterwards if the database is used
 * again by other tests.
 */
export async function changeLog(
  { sql }: Pick<ScratchDatabase, 'sql'>,
  text: string,
  ...values: readonly SqlValue[]
): Promise<void> {
  if (STORE === 'postgres') await sql('alter table events disable trigger user');
  else await sql('drop trigger if exists events_no_update');
  try {
    await sql(text, ...values);
  } finally {
    if (STORE === 'postgres') await sql('alter table events enable trigger user');
  }
}

/** Runs a statement on a file, and answers its rows. */
export async function inFile(
  path: string,
  text: string,
  values: readonly SqlValue[],
): Promise<Record<string, unknown>[]> {
  // What nothing refers to any more is damage too.
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: false });
  try {
    // Waited for between attempts and not by SQLite: the transaction in the way may be one of this process.
    for (let attempts = 1; ; attempts += 1) {
      try {
        return database.prepare(text).all(...values);
      } catch (error) {
        if (!isBusy(error) || attempts === 1_000) throw error;
        await pause(5);
      }
    }
  } finally {
    database.close();
  }
}
