/**
 * The only writer of access state (I2): rows, idempotency records and events in one transaction. Rows are written
 * first, the head and the events last, so that `seq` has no gaps and follows the order of commits (I3).
 */
import { type Kysely, sql, type Transaction } from 'kysely';
import { canBeRaised, type StoredRevision } from '../domain/revision.ts';
import type {
  Commit,
  EventRow,
  LeaseHeld,
  Ledger,
  Precondition,
  RowChange,
  RowPrecondition,
} from '../events/ledger.ts';
import { queueKeyOf } from '../events/write-lanes.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { memoryOf } from '../foundation/memory-size.ts';
import type { AccessTable, Cell } from '../schema/access-tables.ts';
import type { EventWithoutSeq, SqlDialect } from './dialect.ts';
import { areColumns, isRowKey, rowKeyOf } from './rows/columns.ts';
import { rememberAnswer } from './rows/sql-idempotency-rows.ts';
import { assertLeaseHeld } from './rows/sql-job-lease-rows.ts';
import { countKeys, KEYS_PER_TENANT_MAX } from './rows/sql-key-counts.ts';
import { writeKeySchedule } from './rows/sql-key-schedule-rows.ts';
import { resetStoredTime } from './rows/sql-stored-time.ts';
import type { Tables } from './tables.ts';
import type { WriteQueue } from './write-queue.ts';

/** Rows and events of one commit. It blocks the event loop while it runs: about 20 µs for each of them. */
export const COMMIT_ROWS_MAX = 10_000;
/** Details written by one statement; it bounds the length of the SQL text and the number of its parameters. */
const DETAILS_PER_STATEMENT = 50;

export class SqlLedger implements Ledger {
  readonly #writer: WriteQueue;
  readonly #dialect: SqlDialect;
  readonly #keysPerTenantMax: number;

  constructor(writer: WriteQueue, dialect: SqlDialect, keysPerTenantMax: number = KEYS_PER_TENANT_MAX) {
    this.#writer = writer;
    this.#dialect = dialect;
    this.#keysPerTenantMax = keysPerTenantMax;
  }

  async commit(commit: Commit): Promise<{ readonly seq: number }> {
    const idempotencyRecords = commit.idempotencyRecords ?? [];
    const keySchedules = commit.keySchedules ?? [];
    const rows = commit.changes.length + commit.events.length + idempotencyRecords.length + keySchedules.length;
    invariant(rows <= COMMIT_ROWS_MAX, 'a commit is of bounded size');
    for (const change of commit.changes) assertColumns(change);
    for (const required of commit.preconditions ?? [])
      invariant(
        required.kind === 'lease' || isRowKey(required.table, Object.keys(required.where)),
        'a precondition says which row it means',
      );

    const { leases, held, compared } = preconditionsOf(commit);
    const write = async (transaction: Transaction<Tables>): Promise<{ readonly seq: number }> => {
      // First, and held: another run of the job then waits for the end of this commit before it begins.
      for (const lease of leases) await assertLeaseHeld(transaction, this.#dialect, lease);
      for (const step of inLockOrder(held, commit.changes)) {
        if (step.kind === 'row') await this.#assertUnchanged(transaction, step, isChanged(step, commit.changes));
        else await apply(transaction, step);
      }
      for (const { row } of idempotencyRecords) await rememberAnswer(transaction, row);
      for (const schedule of keySchedules) await writeKeySchedule(transaction, schedule);
      for (const some of chunks(commit.events)) await writeDetails(transaction, some);
      await countKeys(transaction, commit.events, this.#keysPerTenantMax);
      // Last: from here to COMMIT nobody else can, so the numbers handed out are in the order of the commits.
      const seq = await this.#dialect.appendToLog(transaction, commit.events.map(toUnplaced));
      await assertHolds(transaction, compared);
      if (commit.acceptedTime !== undefined)
        await resetStoredTime(transaction, { at: commit.acceptedTime, eventId: commit.events[0].id });
      return { seq };
    };
    return this.#writer.run(queueKeyOf(commit.events), write, () => bytesHeldFor(commit));
  }

  /**
   * Read inside the transaction and held to its end, so that nothing comes between this and the commit. A row that the
   * commit changes too is held alone: two that shared it would wait for each other.
   */
  async #assertUnchanged(transaction: Transaction<Tables>, required: RowPrecondition, alone: boolean): Promise<void> {
    const query = rowsOf(transaction, required).select('revision');
    const held = alone ? this.#dialect.lockRows(query) : this.#dialect.holdRows(query);
    const row = await held.executeTakeFirst();
    if (row?.['revision'] !== required.revision) throw new PantheonError('conflict');
  }
}

/** A waiting request also holds the input, the record and the event that the rows were made from. */
const HELD_FOR_ROWS = 3;

function bytesHeldFor({ changes, events }: Commit): number {
  return HELD_FOR_ROWS * (memoryOf(changes) + memoryOf(events));
}

/** What is referred to comes before what refers to it. */
const TABLE_ORDER: Readonly<Record<AccessTable, number>> = {
  tenants: 0,
  api_keys: 1,
  api_key_versions: 2,
  signing_keys: 3,
  token_revocations: 4,
  id_tag_secrets: 5,
  next_secrets: 6,
};

/** What is said of a table that changes are made to. */
type AccessPrecondition = Exclude<Precondition, LeaseHeld>;

interface Preconditions {
  readonly leases: readonly LeaseHeld[];
  /** Locked before the rows are written. */
  readonly held: readonly RowPrecondition[];
  /** Compared when nobody else can commit any more. */
  readonly compared: readonly AccessPrecondition[];
}

/**
 * A key's row is locked first: a commit that cannot stand then waits for the other one and does no work in vain. The row
 * of a tenant or of a signing key is required by many commits at once, which would wait for each other if they locked it,
 * and a row that must not be there cannot be locked: those are compared last. What the commit itself writes is held by
 * that.
 */
function preconditionsOf({ preconditions = [], changes }: Commit): Preconditions {
  const leases: LeaseHeld[] = [];
  const held: RowPrecondition[] = [];
  const compared: AccessPrecondition[] = [];
  for (const required of preconditions) {
    if (required.kind === 'lease') {
      leases.push(required);
      continue;
    }
    const isWritten = isChanged(required, changes);
    if (required.kind === 'row' && (isWritten || required.table === 'api_keys')) held.push(required);
    // A token that revokes itself: that there is one revocation of it is the business of the primary key.
    else if (!isWritten) compared.push(required);
  }
  return { leases, held, compared };
}

/**
 * Whether all of this is so. Asked when the head is advanced: from there to COMMIT no other change can be committed, and
 * this statement sees all that were (on PostgreSQL each statement of READ COMMITTED sees what was committed before it).
 */
async function assertHolds(
  transaction: Transaction<Tables>,
  preconditions: readonly AccessPrecondition[],
): Promise<void> {
  if (preconditions.length === 0) return;
  const answers = preconditions.map((required, at) => {
    const rows = rowsOf(transaction, required).limit(1);
    return (required.kind === 'row' ? rows.select('revision') : rows.select(sql.lit(1).as('there'))).as(`p${at}`);
  });
  const found: Cells = await transaction.selectNoFrom(() => answers).executeTakeFirstOrThrow();
  const holds = preconditions.every((required, at) => {
    const answer = found[`p${at}`];
    return required.kind === 'row' ? answer === required.revision : answer === null;
  });
  if (!holds) throw new PantheonError('conflict');
}

function rowsOf(transaction: Transaction<Tables>, { table, where }: AccessPrecondition) {
  let rows = (transaction as unknown as Kysely<CheckedTables>).selectFrom(table);
  for (const [name, value] of Object.entries(where)) rows = rows.where(name, '=', value);
  return rows;
}

/**
 * The rows of a commit in the one order that all commits lock them in: of two that meet crosswise, one waits for the
 * other. In any other order each could wait for the other, until the database ends one of them a second later.
 */
function inLockOrder(
  held: readonly RowPrecondition[],
  changes: readonly RowChange[],
): readonly (RowPrecondition | RowChange)[] {
  const order = (one: RowPrecondition | RowChange): number => TABLE_ORDER[one.table];
  return [...held, ...changes].toSorted((one, other) => {
    const [a, b] = [idOf(one), idOf(other)];
    return order(one) - order(other) || (a < b ? -1 : Number(a > b));
  });
}

function isChanged(required: AccessPrecondition, changes: readonly RowChange[]): boolean {
  return changes.some((change) => change.table === required.table && idOf(change) === idOf(required));
}

function idOf(step: AccessPrecondition | RowChange): string {
  const cells: Cells = 'row' in step ? step.row : step.where;
  const [first] = rowKeyOf(step.table);
  return String(cells[first]);
}

/** Column names become SQL text, so they are compared with ours before anything runs. Values are always parameters. */
function assertColumns(change: RowChange): void {
  const names = [
    ...('row' in change ? Object.keys(change.row) : []),
    ...('set' in change ? Object.keys(change.set) : []),
  ];
  invariant(areColumns(change.table, names), 'a change names columns that exist');
  const isOneMeant = !('where' in change) || isRowKey(change.table, Object.keys(change.where));
  invariant(isOneMeant, 'a change says which row it means');
}

type Cells = Readonly<Record<string, Cell>>;
/** The tables of a change as they were checked: any column, any value. */
type CheckedTables = Record<AccessTable, Cells>;

async function apply(transaction: Transaction<Tables>, change: RowChange): Promise<void> {
  const db = transaction as unknown as Kysely<CheckedTables>;
  switch (change.kind) {
    case 'insert':
      await db.insertInto(change.table).values(change.row).execute();
      return;
    case 'update': {
      const { expectedRevision, revisionAsStored = expectedRevision } = change;
      const set = { ...(typeof expectedRevision === 'number' && { revision: expectedRevision + 1 }), ...change.set };
      invariant(isNextRevision(set.revision, expectedRevision), 'a change raises the revision');
      const stored = sql.ref<StoredRevision>('revision');
      let update = db.updateTable(change.table).set(set).where(stored, '=', revisionAsStored);
      for (const [name, value] of Object.entries(change.where)) update = update.where(name, '=', value);
      const { numUpdatedRows } = await update.executeTakeFirstOrThrow();
      if (numUpdatedRows !== 1n) throw new PantheonError('conflict');
      return;
    }
    case 'delete': {
      let removal = db.deleteFrom(change.table);
      for (const [name, value] of Object.entries(change.where)) removal = removal.where(name, '=', value);
      await removal.execute();
    }
  }
}

/** A damaged revision is replaced by any that can be raised again. */
function isNextRevision(next: number | undefined, expected: StoredRevision): boolean {
  return next !== undefined && (next > expected || (!canBeRaised(expected) && canBeRaised(next)));
}

async function writeDetails(transaction: Transaction<Tables>, events: readonly EventRow[]): Promise<void> {
  await transaction
    .insertInto('event_details')
    .values(events.map((event) => ({ event_id: event.id, tenant_id: event.tenantId, sealed: event.personal })))
    .execute();
}

function toUnplaced(event: EventRow): EventWithoutSeq {
  return {
    id: event.id,
    at: event.at,
    tenant_id: event.tenantId,
    type: event.type,
    subject_type: event.subjectType,
    subject_id: event.subjectId,
    actor_key_id: event.actorKeyId,
    body: event.body,
    leaf_random: event.leafRandom,
    leaf: event.leaf,
  };
}

function* chunks(events: readonly EventRow[]): Generator<readonly EventRow[]> {
  for (let at = 0; at < events.length; at += DETAILS_PER_STATEMENT) yield events.slice(at, at + DETAILS_PER_STATEMENT);
}
