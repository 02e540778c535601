import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { leafHash } from '../../events/merkle.ts';
import { inspectLog, inspectPages } from './sqlite-inspection.ts';

interface Told {
  readonly type: string;
  readonly subject: readonly [type: string, id: string];
  readonly body?: string;
}

const NOW = Date.UTC(2030, 0);
const RANDOM = new Uint8Array(16);

/** The tables as far as they are looked at, with these events and the head after them. */
function store(events: readonly Told[], rows = ''): DatabaseSync {
  const database = new DatabaseSync(':memory:');
  database.exec(`
    create table log_head (id integer, seq integer, at integer);
    create table events (seq integer primary key, type text, subject_type text, subject_id text, body text,
      leaf_random blob, leaf blob);
    create table api_keys (id text, revision integer);
    create table api_key_versions (key_id text);
    create table tenants (id text, revision integer);
    create table signing_keys (kid text, revision integer);
    create table id_tag_secrets (number integer, revision integer);
    create table token_revocations (jti text);
    ${rows}`);
  const insert = database.prepare('insert into events values (?, ?, ?, ?, ?, ?, ?)');
  events.forEach(({ type, subject: [subjectType, id], body = '{}' }, at) => {
    insert.run(at + 1, type, subjectType, id, body, RANDOM, leafHash(RANDOM, body));
  });
  database.prepare('insert into log_head values (1, ?, ?)').run(events.length, NOW);
  return database;
}

const created = { type: 'key.created', subject: ['key', 'k1'] } as const;
const revokedToken = (expiresAt: number | null): Told => ({
  type: 'token.revoked',
  subject: ['token', 't1'],
  body: JSON.stringify(expiresAt === null ? {} : { after: { expiresAt: new Date(expiresAt).toISOString() } }),
});

test.each<[string, DatabaseSync, string | null]>([
  ['a file without tables yet', new DatabaseSync(':memory:'), null],
  ['an empty log', store([]), null],
  ['a key as its event made it', store([created], "insert into api_keys values ('k1', 1)"), null],
  ['a key that has gone on', store([created], "insert into api_keys values ('k1', 7)"), null],
  ['a key whose row is missing', store([created]), 'a row of api_keys that is missing'],
  [
    'a key whose row is of before its last event',
    store([created, { type: 'key.updated', subject: ['key', 'k1'] }], "insert into api_keys values ('k1', 1)"),
    'a row of api_keys that is older',
  ],
  [
    'a tenant whose row is missing: that is answered where it is needed',
    store([{ type: 'tenant.created', subject: ['tenant', 'a'] }]),
    null,
  ],
  [
    'a revoked token whose row is there',
    store([revokedToken(NOW + 1)], "insert into token_revocations values ('t1')"),
    null,
  ],
  ['a revoked token whose row is missing', store([revokedToken(NOW + 1)]), 'its row is missing'],
  ['a revoked token that has expired by the time of the log', store([revokedToken(NOW)]), null],
  ['a revoked token without an expiry', store([revokedToken(null)]), null],
  ['a revoked token whose event cannot be read', store([{ ...revokedToken(null), body: '{' }]), null],
  [
    'a revoked token of before an operator put the clock right',
    store([revokedToken(NOW + 1), { type: 'store.clock_accepted', subject: ['store', 'store'] }]),
    null,
  ],
  [
    'a revoked token whose row is missing, before another event of the store',
    store([revokedToken(NOW + 1), { type: 'store.expired_revocations_deleted', subject: ['store', 'store'] }]),
    'its row is missing',
  ],
])('%s', (_what, database, wrong) => {
  expect(inspectLog(database, true)).toEqual(wrong === null ? null : expect.stringContaining(wrong));
  // Beside no write-ahead log nothing can be of another time.
  expect(inspectLog(database, false)).toBeNull();
});

test.each<[string, string, string]>([
  ['the head is missing', 'delete from log_head', 'the head of the log is missing'],
  ['the head is of later', 'update log_head set seq = 9', 'the log ends at event 2, and its head says 9'],
  ['an event is missing', 'delete from events where seq = 1', 'events at the end of the log are missing'],
  ['the last event is another one', 'update events set body = \'{"a":1}\' where seq = 2', 'not what was hashed'],
])('%s is found', (_what, damage, wrong) => {
  const database = store([created, created], "insert into api_keys values ('k1', 2)");
  expect(inspectLog(database, true)).toBeNull();
  database.exec(damage);
  expect(inspectLog(database, true)).toContain(wrong);
});

test('every page is intact and every event is there, or the error says what is wrong', () => {
  const database = store([created]);
  expect([...inspectPages(database)].every((wrong) => wrong === null)).toBe(true);
  database.exec('update log_head set seq = 2');
  expect([...inspectPages(database)].at(-1)).toBe('the log has 1 events, and its head says 2');
  expect([...inspectPages(new DatabaseSync(':memory:'))]).toEqual([null]);
});
