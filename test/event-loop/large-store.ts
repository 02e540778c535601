/**
 * A data folder that holds what years of use leave behind: many keys, events, counts and revoked tokens, in the form in
 * which the service itself would have written them, apart from what is sealed.
 */
import { DatabaseSync } from 'node:sqlite';

/** How many of each. */
export interface Sizes {
  readonly keys: number;
  readonly events: number;
  readonly usageRows: number;
  readonly revokedTokens: number;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** More than a start compares with the rows. */
const LAST_EVENTS = 1_500;
/** One event in so many is as large as an event can be; with more of them the store would not fit on a small disk. */
const LARGE_EVENT_EVERY = 100;
/** Keys that are used in every minute. */
const BUSY_KEYS = 87;

/**
 * Fills the database of a service that is closed. The tenant `default` is there, with a key of the usual size and one that
 * is as large as a key can be.
 */
export function fill(file: string, sizes: Sizes, now: number): void {
  using db = new DatabaseSync(file);
  db.exec('pragma journal_mode = wal; pragma synchronous = off; begin immediate');
  addKeys(db, sizes.keys, now);
  addEvents(db, sizes.events);
  addUsage(db, sizes.usageRows, now);
  db.prepare(
    `with recursive n (i) as (select 1 union all select i + 1 from n where i < ?)
     insert into token_revocations (jti, tenant_id, key_id, expires_at, revision)
     select 'somebodys-key.' || i, 'default', 'somebodys-key', ? + i % 1000, 1 from n`,
  ).run(sizes.revokedTokens, now + 2 * 3_600_000);
  db.exec('commit');
  db.exec('pragma wal_checkpoint(truncate)');
}

/** Older than every key that is there, so that those come first in a list. They cannot be opened: they are shown as such. */
function addKeys(db: DatabaseSync, count: number, now: number): void {
  const columns = db
    .prepare(`select name from pragma_table_info('api_keys')`)
    .all()
    .map(({ name }) => String(name));
  const changed: Readonly<Record<string, string>> = {
    id: `'old' || printf('%013d', n.i)`,
    name: `'Old key ' || n.i`,
    user_id: `'user-' || n.i % 1000`,
    created_at: `${now - 400 * DAY_MS} + n.i`,
    created_by: 'null',
  };
  const values = columns.map((name) => changed[name] ?? `k.${name}`);
  db.prepare(
    `with recursive n (i) as (select 1 union all select i + 1 from n where i < ?)
     insert into api_keys (${columns.join(', ')}) select ${values.join(', ')} from n
     join (select * from api_keys where tenant_id = 'default' order by length(permissions) limit 1) as k`,
  ).run(count);
  db.prepare(
    `insert into api_key_versions (key_id, tenant_id, version, created_at, accepted_until, revision, sealed)
     select k.id, 'default', 1, k.created_at, null, 1, v.sealed from api_keys as k
     join (select sealed from api_key_versions limit 1) as v where k.id like 'old%'`,
  ).run();
}

/**
 * After those that are there: of five keys in turn, and at the end some that changed no row, which the start looks at.
 * Those at the end, and some of the others, are large.
 */
function addEvents(db: DatabaseSync, count: number): void {
  const triggers = db.prepare(`select name, sql from sqlite_schema where type = 'trigger'`).all();
  for (const { name } of triggers) db.exec(`drop trigger ${String(name)}`);
  db.prepare(
    `with recursive n (i) as (select 1 union all select i + 1 from n where i < ?),
       head as (select seq from log_head),
       made as (select * from events where type = 'key.created' and tenant_id = 'default'),
       small as (select * from made order by length(body) limit 1), large as (select * from made order by length(body) desc limit 1)
     insert into events (seq, id, at, tenant_id, type, subject_type, subject_id, body, leaf_random, leaf)
     select head.seq + n.i, 'event' || n.i, one.at, 'default',
       case when n.i > ? then 'key.exposed_in_url' when n.i % 3 = 0 then 'key.revoked' else 'key.updated' end,
       'key', case when n.i > ? then 'exposed' else 'old' || printf('%013d', n.i % 5 + 1) end,
       one.body, one.leaf_random, one.leaf from n, head
     join (select 0 as is_large, small.* from small union all select 1, large.* from large) as one
       on one.is_large = (n.i > ? or n.i % ? = 0)`,
  ).run(count, count - LAST_EVENTS, count - LAST_EVENTS, count - LAST_EVENTS, LARGE_EVENT_EVERY);
  db.prepare('update log_head set seq = seq + ?').run(count);
  for (const { sql } of triggers) db.exec(String(sql));
}

/** By the minute for as many days as it takes, and the sums that belong to it. */
function addUsage(db: DatabaseSync, count: number, now: number): void {
  const last = now - (now % MINUTE_MS);
  db.prepare(
    `with recursive n (i) as (select 0 union all select i + 1 from n where i < ? - 1)
     insert into usage_counts (tenant_id, key_id, version, minute, outcome, count)
     select 'default', 'old' || printf('%013d', n.i % ${BUSY_KEYS} + 1), 1, ? - n.i / ${BUSY_KEYS} * ${MINUTE_MS}, 'valid', 1 from n`,
  ).run(count, last);
  for (const [step, lengthMs] of [
    ['minute', MINUTE_MS],
    ['hour', 60 * MINUTE_MS],
    ['day', DAY_MS],
  ] as const) {
    const since = `minute - minute % ${lengthMs}`;
    db.exec(`insert into tenant_usage select tenant_id, '${step}', ${since}, outcome, sum(count)
      from usage_counts group by tenant_id, ${since}, outcome`);
    if (step !== 'minute')
      db.exec(`insert into key_usage select tenant_id, key_id, '${step}', ${since}, outcome, sum(count)
        from usage_counts group by tenant_id, key_id, ${since}, outcome`);
  }
}
