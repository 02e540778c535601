/** Counts the statements that the engines of a test run. */
import { StatementSync } from 'node:sqlite';
import { statementWatchers } from './postgres-node.ts';
import { STORE } from './store.ts';

/** Counts statements until it is disposed. Reads of the head of the log are counted apart: one is allowed before every acceptance. */
export class StatementCount implements Disposable {
  reads = 0;
  writes = 0;
  heads = 0;
  readonly #restore: () => void;

  constructor() {
    this.#restore = STORE === 'postgres' ? watchPostgres(this) : watchSqlite(this);
  }

  [Symbol.dispose](): void {
    this.#restore();
  }
}

/** The ends of transactions, and what a new connection asks before anything else. */
const NO_STATEMENT = /^(begin|commit|rollback)|server_version_num/;
/** Reads of the head of the log and of the events after a position: the node makes them on its own. */
const FOLLOWING = /from "log_head"|from "events" where "seq" >= /;

function watchPostgres(count: StatementCount): () => void {
  const watch = (sql: string): void => {
    if (NO_STATEMENT.test(sql)) return;
    if (!sql.startsWith('select')) count.writes += 1;
    else if (FOLLOWING.test(sql)) count.heads += 1;
    else count.reads += 1;
  };
  statementWatchers.add(watch);
  return () => statementWatchers.delete(watch);
}

function watchSqlite(count: StatementCount): () => void {
  const { all, get, run } = StatementSync.prototype;
  StatementSync.prototype.all = function (...values) {
    count.reads += 1;
    return Reflect.apply(all, this, values) as ReturnType<typeof all>;
  };
  StatementSync.prototype.run = function (...values) {
    count.writes += 1;
    return Reflect.apply(run, this, values) as ReturnType<typeof run>;
  };
  StatementSync.prototype.get = function (...values) {
    if (this.sourceSQL.includes('log_head')) count.heads += 1;
    else count.reads += 1;
    return Reflect.apply(get, this, values) as ReturnType<typeof get>;
  };
  return () => Object.assign(StatementSync.prototype, { all, get, run });
}
