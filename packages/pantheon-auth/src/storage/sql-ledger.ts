/**
 * The one writer of access state (I2): rows, their companions and their events in one transaction. The order inside it
 * is what keeps `seq` gap-free and in commit order (I3): rows first, the head and the events under it last.
 */
import type { Kysely, Transaction } from 'kysely';
import type { Commit, CompanionRow, EventRow, Ledger, RequiredRow, Row, RowChange } from '../events/ledger.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { areColumns } from './columns.ts';
import type { SqlDialect } from './dialect.ts';
import { rememberAnswer } from './sql-idempotency-rows.ts';
import { LOG_HEAD_ID } from './sql-log-reader.ts';
import type { IdempotencyRow, Tables } from './tables.ts';
import type { Writer } from './writer.ts';

/** Rows and events of one commit. It blocks the event loop while it runs: about 20 µs for each of them. */
export const COMMIT_ROWS_MAX = 10_000;
/** Events written by one statement; it bounds the length of the SQL text and the number of its parameters. */
const EVENTS_PER_STATEMENT = 50;

export class SqlLedger implements Ledger {
  readonly #writer: Writer;
  readonly #dialect: SqlDialect;

  constructor(writer: Writer, dialect: SqlDialect) {
    this.#writer = writer;
    this.#dialect = dialect;
  }

  async commit(commit: Commit): Promise<{ readonly seq: number }> {
    const companions = commit.companions ?? [];
    const rows = commit.changes.length + commit.events.length + companions.length;
    invariant(rows <= COMMIT_ROWS_MAX, 'a commit is of bounded size');
    for (const change of commit.changes) assertColumns(change);
    for (const { table, where } of commit.requires ?? [])
      invariant(areColumns(table, Object.keys(where)), 'a requirement names columns that exist');

    return this.#writer.run(async (transaction) => {
      for (const required of commit.requires ?? []) await assertUnchanged(transaction, required);
      for (const change of commit.changes) await apply(transaction, change);
      for (const companion of companions) await accompany(transaction, companion);
      for (const some of chunks(commit.events)) await writeDetails(transaction, some);
      const seq = await this.#advanceHead(transaction, commit.events);
      let next = seq - commit.events.length + 1;
      for (const some of chunks(commit.events)) {
        await writeEvents(transaction, some, next);
        next += some.length;
      }
      return { seq };
    });
  }

  /** From here to COMMIT nobody else can, so the numbers handed out are in the order of the commits. */
  async #advanceHead(transaction: Transaction<Tables>, events: readonly EventRow[]): Promise<number> {
    const at = events.reduce((latest, event) => Math.max(latest, event.at), 0);
    const head = await transaction
      .updateTable('log_head')
      .set((eb) => ({ seq: eb('seq', '+', events.length), at: this.#dialect.greater(eb.ref('at'), eb.val(at)) }))
      .where('id', '=', LOG_HEAD_ID)
      .returning('seq')
      .executeTakeFirst();
    invariant(head !== undefined, 'the log has a head');
    return head.seq;
  }
}

/** Column names become SQL text, so they are compared with ours before anything runs. Values are always parameters. */
function assertColumns(change: RowChange): void {
  const names = [
    ...('row' in change ? Object.keys(change.row) : []),
    ...('set' in change ? Object.keys(change.set) : []),
    ...('where' in change ? Object.keys(change.where) : []),
  ];
  invariant(areColumns(change.table, names), 'a change names columns that exist');
  invariant(!('where' in change) || Object.keys(change.where).length > 0, 'a change says which row it means');
}

/** The tables of a change as they were checked: any column, any value. */
type CheckedTables = Record<RowChange['table'], Row>;

async function apply(transaction: Transaction<Tables>, change: RowChange): Promise<void> {
  const db = transaction as unknown as Kysely<CheckedTables>;
  switch (change.kind) {
    case 'insert':
      await db.insertInto(change.table).values(change.row).execute();
      return;
    case 'update': {
      const set = { revision: change.expectedRevision + 1, ...change.set };
      invariant(Number(set.revision) > change.expectedRevision, 'a change raises the revision');
      let update = db.updateTable(change.table).set(set).where('revision', '=', change.expectedRevision);
      for (const [name, value] of Object.entries(change.where)) update = update.where(name, is(value), value);
      const { numUpdatedRows } = await update.executeTakeFirstOrThrow();
      if (numUpdatedRows !== 1n) throw new PantheonError('conflict');
      return;
    }
    case 'delete': {
      let removal = db.deleteFrom(change.table);
      for (const [name, value] of Object.entries(change.where)) removal = removal.where(name, is(value), value);
      await removal.execute();
    }
  }
}

/** Read inside the transaction, so that nothing comes between this and the commit. */
async function assertUnchanged(transaction: Transaction<Tables>, required: RequiredRow): Promise<void> {
  const db = transaction as unknown as Kysely<CheckedTables>;
  let query = db.selectFrom(required.table).select('revision');
  for (const [name, value] of Object.entries(required.where)) query = query.where(name, is(value), value);
  const row = await query.executeTakeFirst();
  if (row?.['revision'] !== required.revision) throw new PantheonError('conflict');
}

function is(value: Row[string]): '=' | 'is' {
  return value === null ? 'is' : '=';
}

async function accompany(transaction: Transaction<Tables>, companion: CompanionRow): Promise<void> {
  // The port speaks of any row; this is the only table it can be.
  await rememberAnswer(transaction, companion.row as unknown as IdempotencyRow);
}

async function writeDetails(transaction: Transaction<Tables>, events: readonly EventRow[]): Promise<void> {
  await transaction
    .insertInto('event_details')
    .values(events.map((event) => ({ event_id: event.id, tenant_id: event.tenantId, sealed: event.personal })))
    .execute();
}

async function writeEvents(
  transaction: Transaction<Tables>,
  events: readonly EventRow[],
  first: number,
): Promise<void> {
  const rows = events.map((event, index) => ({
    seq: first + index,
    id: event.id,
    at: event.at,
    tenant_id: event.tenantId,
    type: event.type,
    subject_type: event.subjectType,
    subject_id: event.subjectId,
    body: event.body,
    leaf_random: event.leafRandom,
    leaf: event.leaf,
  }));
  await transaction.insertInto('events').values(rows).execute();
}

function* chunks(events: readonly EventRow[]): Generator<readonly EventRow[]> {
  for (let at = 0; at < events.length; at += EVENTS_PER_STATEMENT) yield events.slice(at, at + EVENTS_PER_STATEMENT);
}
