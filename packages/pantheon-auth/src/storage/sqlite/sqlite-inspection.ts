/**
 * What can be wrong with an SQLite file that opens: damaged pages, and a file that was put back beside the write-ahead log
 * (WAL) of another time, of which SQLite makes one database without a word. Each check answers what is wrong in words, or
 * null. Nothing here writes.
 */
import type { DatabaseSync } from 'node:sqlite';
import { EVENT_TYPES, type SubjectType } from '../../domain/event-data.ts';
import { leafHash } from '../../events/merkle.ts';

/** Events whose effects are compared with the rows: more than the WAL usually holds, so that what lies there is met. */
const EVENTS_COMPARED_MAX = 1_000;
/** Events counted for that: a key that rotates itself all day has many. It bounds the time to a tenth of a second. */
const EVENTS_COUNTED_MAX = 100_000;

/**
 * Whether the log agrees with itself and, beside a WAL, with the rows that it tells of: without one nothing can be of
 * another time. Takes milliseconds, however large the file is.
 */
export function inspectLog(database: DatabaseSync, isBesideWal: boolean): string | null {
  return atOneMoment(database, () => {
    if (!hasTable(database, 'log_head')) return null; // It has none yet.
    const head = database.prepare('select seq, at from log_head').get() as { seq: number; at: number } | undefined;
    if (head === undefined) return 'the head of the log is missing';
    const wrong = inspectEnd(database, head.seq);
    return wrong === null && isBesideWal ? (inspectLast(database) ?? inspectEffects(database, head)) : wrong;
  });
}

/** The tables that answer who may act. A row that its index does not lead to would be a key that nobody knows. */
const ACCESS_TABLES = ['tenants', 'api_keys', 'api_key_versions', 'signing_keys', 'token_revocations'] as const;

/** Counted in some 40 ms. */
const EVENTS_IN_A_RANGE = 50_000;

/**
 * Whether every page is in order, every row of access state where its index says, and every event there. Reads the whole
 * file. After each step nothing is read for a moment, so that the WAL, which keeps what is being read, can begin anew.
 *
 * The first step is long: SQLite can look at single tables too, but then it does not see a page that two tables use, or a
 * list of free pages that leads to a page in use, which the next write would overwrite.
 */
export function* inspectPages(database: DatabaseSync): Generator<string | null> {
  yield firstProblem(database, 'quick_check(1)');
  if (!hasTable(database, 'log_head')) return;
  for (const table of ACCESS_TABLES) yield firstProblem(database, `integrity_check('${table}')`);
  yield* countEvents(database);
}

/** Events are only ever added, and their numbers have no gap: so many of them there are up to the head as it says. */
function* countEvents(database: DatabaseSync): Generator<string | null> {
  const { seq } = database.prepare('select seq from log_head').get() as { seq: number };
  // Of the table itself: an index could be of another time.
  const count = database.prepare('select count(*) as events from events not indexed where seq > ? and seq <= ?');
  let events = 0;
  for (let after = 0; after < seq; after += EVENTS_IN_A_RANGE) {
    const from = after === 0 ? Number.MIN_SAFE_INTEGER : after;
    events += (count.get(from, Math.min(seq, after + EVENTS_IN_A_RANGE)) as { events: number }).events;
    yield null;
  }
  yield seq === events ? null : `the log has ${events} events, and its head says ${seq}`;
}

function firstProblem(database: DatabaseSync, check: string): string | null {
  const [first] = database.prepare(`pragma ${check}`).all();
  const [said] = Object.values(first ?? {});
  return said === 'ok' ? null : String(said).replaceAll(/\s+/g, ' ');
}

/** Several statements that see the same state, whatever is committed meanwhile. */
function atOneMoment<T>(database: DatabaseSync, look: () => T): T {
  database.exec('begin');
  try {
    return look();
  } finally {
    if (database.isTransaction) database.exec('commit');
  }
}

function hasTable(database: DatabaseSync, name: string): boolean {
  return database.prepare('select 1 from sqlite_schema where name = ?').get(name) !== undefined;
}

/** The head, and the events up to it without a gap. */
function inspectEnd(database: DatabaseSync, head: number): string | null {
  const { last } = database.prepare('select max(seq) as last from events').get() as { last: number | null };
  if ((last ?? 0) !== head) return `the log ends at event ${last ?? 0}, and its head says ${head}`;
  if (head === 0) return null;
  const from = Math.max(0, head - EVENTS_COMPARED_MAX);
  const counted = database.prepare('select count(*) as events from events where seq > ?').get(from);
  return (counted as { events: number }).events === head - from ? null : 'events at the end of the log are missing';
}

interface RowPlace {
  readonly table: string;
  readonly id: string;
  /** Whether a row that is missing is answered with a 503 where it is needed, and so needs no attention here. */
  readonly isMissed: boolean;
  /** Holds for a row that has had its last change. It is not older than its events, whatever its revision says. */
  readonly isFinal?: string;
}

/** Where the row of a subject is. A token's row has no revision: it is there or not. The store itself has none. */
const ROWS: Readonly<Record<Exclude<SubjectType, 'token' | 'store'>, RowPlace>> = {
  key: { table: 'api_keys', id: 'id', isMissed: false },
  tenant: { table: 'tenants', id: 'id', isMissed: true },
  signing_key: { table: 'signing_keys', id: 'kid', isMissed: false, isFinal: 'retired_at is not null' },
  id_tag_secret: { table: 'id_tag_secrets', id: 'number', isMissed: true },
};

/** Each of these events raises the revision of its subject's row by one. */
const REVISING = Object.entries(EVENT_TYPES)
  .flatMap(([type, { revisesRow }]) => (revisesRow ? [`'${type}'`] : []))
  .join(', ');

/** Whether the last event is what was hashed. */
function inspectLast(database: DatabaseSync): string | null {
  const last = database.prepare('select seq, body, leaf_random, leaf from events order by seq desc limit 1').get();
  if (last === undefined) return null;
  const { seq, body, leaf_random: random, leaf } = last as unknown as HashedEvent;
  return leafHash(random, body).equals(leaf) ? null : `event ${seq}, the last one, is not what was hashed`;
}

interface HashedEvent {
  readonly seq: number;
  readonly body: string;
  readonly leaf_random: Uint8Array;
  readonly leaf: Uint8Array;
}

/** Whether what the last events say was done was done to the rows: one that is older than its event is of another time. */
function inspectEffects(database: DatabaseSync, head: { readonly seq: number; readonly at: number }): string | null {
  const subjects = database
    .prepare(
      // Of the table itself: an index could be of another time.
      `select subject_type as type, subject_id as id, max(seq) as seq, max(body) as body,
         sum(type in (${REVISING})) as changes
       from events not indexed where seq > ? group by 1, 2 order by 3 desc`,
    )
    .all(head.seq - EVENTS_COMPARED_MAX) as unknown as readonly TailSubject[];
  // Before an operator put the clock right, rows may have been cleared by the time that was wrong.
  const { seq: acceptedAt } = database
    .prepare(
      `select coalesce(max(seq), 0) as seq from events not indexed where seq > ? and type = 'store.clock_accepted'`,
    )
    .get(head.seq - EVENTS_COMPARED_MAX) as { seq: number };
  let left = EVENTS_COUNTED_MAX;
  for (const subject of subjects) {
    if (left <= 0) break;
    const { type } = subject;
    if (type === 'store') continue;
    if (type === 'token') {
      if (subject.seq > acceptedAt && !isTokenKnown(database, subject, head.at))
        return `event ${subject.seq} revoked a token, and its row is missing`;
      continue;
    }
    const { events, revision } = changesOf(database, type, subject.id, left);
    left -= events + 1;
    // Of a subject with more events than may be counted, the last ones are what is known.
    const changes = left > 0 ? Math.max(events, subject.changes) : subject.changes;
    if (revision === null && ROWS[type].isMissed) continue;
    if ((revision ?? 0) < changes)
      return `event ${subject.seq} changed a row of ${ROWS[type].table} that is ${revision === null ? 'missing' : 'older'}`;
  }
  return null;
}

interface TailSubject {
  readonly type: SubjectType;
  readonly id: string;
  readonly seq: number;
  readonly body: string;
  readonly changes: number;
}

function changesOf(
  database: DatabaseSync,
  type: keyof typeof ROWS,
  id: string,
  limit: number,
): { readonly events: number; readonly revision: number | null } {
  const { table, id: column, isFinal = 'false' } = ROWS[type];
  return database
    .prepare(
      // Places without numbers: Node 22 does not bind numbered ones. A revision that a number cannot hold is damage of that
      // row alone, which its reader finds: here it counts as none that is older.
      `select (select case when revision not between ${Number.MIN_SAFE_INTEGER} and ${Number.MAX_SAFE_INTEGER} or ${isFinal}
           then ${Number.MAX_SAFE_INTEGER} else revision end from ${table} where ${column} = ?) as revision,
         (select count(*) from (
           select 1 from events where subject_type = ? and subject_id = ? and type in (${REVISING}) limit ?
         )) as events`,
    )
    .get(id, type, id, limit) as unknown as { events: number; revision: number | null };
}

/** The row of a revoked token may go once the token has expired, which the log's own time then shows. */
function isTokenKnown(database: DatabaseSync, { id, body }: TailSubject, now: number): boolean {
  if (database.prepare('select 1 from token_revocations where jti = ?').get(id) !== undefined) return true;
  const { after } = parseBody(body);
  return after?.expiresAt === undefined || Date.parse(after.expiresAt) <= now;
}

/** A body that cannot be read says nothing here; the reader of the log tells that it is damaged. */
function parseBody(body: string): { readonly after?: { readonly expiresAt?: string } } {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}
