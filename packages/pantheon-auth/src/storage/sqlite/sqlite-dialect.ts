/**
 * Kysely over one `node:sqlite` connection. Differs from Kysely's own SQLite driver in three ways: a transaction starts
 * with `begin immediate`, so that it never fails half-way for a lock (I3); a lock is waited for without blocking the
 * event loop; statements are prepared once. Driver errors leave here as `PantheonError`.
 */
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite';
import {
  type CompiledQuery,
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type DialectAdapter,
  type Driver,
  type Kysely,
  type QueryCompiler,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import type { Clock } from '../../foundation/clock.ts';
import { invariant } from '../../foundation/errors.ts';
import { readsDamagedRows } from '../damaged-integers.ts';
import { withBusyRetries } from './busy-retry.ts';
import { SqliteDamage } from './sqlite-damage.ts';
import { readDamagedRows } from './sqlite-damaged-rows.ts';
import { isDamage, toCommitError } from './sqlite-errors.ts';

export interface SqliteConnectionOptions {
  readonly database: DatabaseSync;
  readonly clock: Clock;
  /** A reader has no transactions: it runs one statement at a time and so never holds an old snapshot. */
  readonly role: 'writer' | 'reader';
  /** Sees the text of every statement, never its values. */
  readonly onStatement: ((sql: string) => void) | null;
  /** What is known of damage to the file, where others know of it too. */
  readonly damage?: SqliteDamage;
}

/** Prepared statements kept for each connection. Our texts are far fewer; the bound is for lists of varying length. */
export const STATEMENTS_KEPT_MAX = 256;

export class NodeSqliteDialect implements Dialect {
  readonly #options: SqliteConnectionOptions;

  constructor(options: SqliteConnectionOptions) {
    this.#options = options;
  }

  createAdapter(): DialectAdapter {
    return this.#options.role === 'writer' ? new WriterAdapter() : new ReaderAdapter();
  }

  createDriver(): Driver {
    return new NodeSqliteDriver(new NodeSqliteConnection(this.#options), this.#options.role);
  }

  createQueryCompiler(): QueryCompiler {
    return new SqliteQueryCompiler();
  }

  createIntrospector(db: Kysely<unknown>): DatabaseIntrospector {
    return new SqliteIntrospector(db);
  }
}

/** SQLite's DDL is transactional; Kysely leaves it off only because its own driver cannot promise `begin immediate`. */
class WriterAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** Statements of a reader are synchronous and stand alone, so nobody needs to wait for the connection. */
export class ReaderAdapter extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true;
  }
}

/** Opening and closing the connection belongs to `database.ts`; here it is only used. */
class NodeSqliteDriver implements Driver {
  readonly #connection: NodeSqliteConnection;
  readonly #role: 'writer' | 'reader';

  constructor(connection: NodeSqliteConnection, role: 'writer' | 'reader') {
    this.#connection = connection;
    this.#role = role;
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection;
  }

  async beginTransaction(): Promise<void> {
    invariant(this.#role === 'writer', 'a reader is never in a transaction');
    await this.#connection.begin();
  }

  async commitTransaction(): Promise<void> {
    this.#connection.commit();
  }

  async rollbackTransaction(): Promise<void> {
    this.#connection.rollback();
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {}
}

interface Prepared {
  readonly statement: StatementSync;
  readonly returnsRows: boolean;
}

class NodeSqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync;
  readonly #clock: Clock;
  readonly #onStatement: ((sql: string) => void) | null;
  readonly #damage: SqliteDamage;
  readonly #prepared = new Map<string, Prepared>();
  #inTransaction = false;

  constructor(options: SqliteConnectionOptions) {
    this.#database = options.database;
    this.#clock = options.clock;
    this.#onStatement = options.onStatement;
    this.#damage = options.damage ?? new SqliteDamage('the database', () => {});
  }

  async begin(): Promise<void> {
    await this.#retried(() => this.#exec('begin immediate'));
    this.#inTransaction = true;
  }

  commit(): void {
    // SQLite rolls back by itself after some failures. What ran since then would have been outside of it.
    invariant(this.#database.isTransaction, 'a transaction is open until its commit');
    try {
      this.#exec('commit');
      this.#inTransaction = false;
    } catch (error) {
      throw isDamage(error) ? this.#damage.toPantheonError(error) : toCommitError(error);
    }
  }

  rollback(): void {
    this.#inTransaction = false;
    try {
      if (!this.#database.isTransaction) return;
      this.#onStatement?.('rollback');
      // Also of a damaged file, which it leaves as it was.
      this.#database.exec('rollback');
    } catch (error) {
      throw this.#damage.toPantheonError(error);
    }
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    // In a transaction we have the lock: there is nothing to wait for, and waiting would hold it.
    if (!this.#inTransaction) return this.#retried(() => this.#run<R>(query));
    invariant(this.#database.isTransaction, 'a statement of a transaction runs inside it');
    try {
      return this.#run<R>(query);
    } catch (error) {
      throw this.#damage.toPantheonError(error);
    }
  }

  streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('Streaming would hold a snapshot across turns of the event loop; read in pages instead.');
  }

  async #retried<T>(attempt: () => T): Promise<T> {
    try {
      return await withBusyRetries(this.#clock, attempt);
    } catch (error) {
      throw this.#damage.toPantheonError(error);
    }
  }

  #exec(sql: string): void {
    this.#damage.assertNone();
    this.#onStatement?.(sql);
    this.#database.exec(sql);
  }

  #run<R>(query: CompiledQuery): QueryResult<R> {
    this.#damage.assertNone();
    this.#onStatement?.(query.sql);
    const { statement, returnsRows } = this.#prepare(query.sql);
    const parameters = query.parameters as readonly SQLInputValue[];
    if (returnsRows) {
      const read = (): Record<string, SQLOutputValue>[] => statement.all(...parameters);
      return { rows: (readsDamagedRows(query) ? readDamagedRows(statement, read) : read()) as R[] };
    }
    return { rows: [], numAffectedRows: BigInt(statement.run(...parameters).changes) };
  }

  #prepare(sql: string): Prepared {
    const known = this.#prepared.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    const prepared = { statement, returnsRows: statement.columns().length > 0 };
    const oldest = this.#prepared.size < STATEMENTS_KEPT_MAX ? undefined : this.#prepared.keys().next().value;
    if (oldest !== undefined) this.#prepared.delete(oldest);
    this.#prepared.set(sql, prepared);
    return prepared;
  }
}
