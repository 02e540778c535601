import { expect, test } from 'vitest';
import { changeLog, openScratchDatabase, type ScratchDatabase, STORE } from '../../../test/store.ts';
import { ROWS_AT_ONCE } from './sql-stored-time.ts';

const RIGHT = 1_000;
const AHEAD = 2_000;
const LOG_LENGTH = 3 * ROWS_AT_ONCE + 7;
/** Events of a node whose clock was ahead, between those of one whose clock was right, and where one read ends. */
const PLACES = [1, 2, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE + 3_333, LOG_LENGTH - 1];

/** A log of so many events. Each is of a key of its own, but for one key that all of `PLACES` above 2 also are of. */
async function fillLog(scratch: ScratchDatabase, length: number): Promise<void> {
  const numbers =
    STORE === 'postgres'
      ? 'select n from generate_series(1, ?1::int) as n'
      : 'with recursive r(n) as (select 1 union all select n + 1 from r where n < ?1) select n from r';
  const bytes = STORE === 'postgres' ? "'\\x00'::bytea" : "x'00'";
  // The trigger asks for the end of the log at each of them, which is its business and not this test's.
  const trigger = STORE === 'postgres' ? null : 'drop trigger events_no_gap';
  if (trigger !== null) await scratch.sql(trigger);
  await changeLog(
    scratch,
    `insert into events (seq, id, at, tenant_id, type, subject_type, subject_id, body, leaf_random, leaf)
      select n, 'e' || n, ${RIGHT}, 't', 'key.updated', 'key', 'k' || n, '{}', ${bytes}, ${bytes} from (${numbers}) as all_of`,
    length,
  );
  await changeLog(scratch, `update events set at = ${AHEAD} where seq in (${PLACES.join(', ')})`);
  await changeLog(scratch, `update events set subject_id = 'shared' where seq in (${PLACES.slice(2).join(', ')})`);
  await changeLog(scratch, `update events set subject_type = 'tenant' where seq = 2`);
  await scratch.sql('update log_head set seq = ?', length);
}

test('keys that were changed with a wrong time are all found in a long log, a bounded number of events at a time', async () => {
  await using scratch = await openScratchDatabase();
  await fillLog(scratch, LOG_LENGTH);
  scratch.statements.length = 0;
  const parts: string[][] = [];
  for await (const part of scratch.db.time.keysChangedAfter(RIGHT))
    parts.push(part.map(({ keyId }) => keyId).toSorted());
  expect(parts).toEqual([['k1', 'shared'], ['shared'], ['shared'], ['shared']]);
  const reads = scratch.statements.filter((text) => text.includes('"events"'));
  expect(reads).toHaveLength(4);
  for (const text of reads) expect(text).toMatch(/"seq" >= .* and "seq" < /);
  for await (const part of scratch.db.time.keysChangedAfter(AHEAD)) expect(part).toEqual([]);
});

test('last uses with a wrong time are corrected, for any number of keys, and no others', async () => {
  await using scratch = await openScratchDatabase();
  const { db } = scratch;
  const use = { tenantId: 't', version: 1, count: 1, addresses: [] };
  const keys = Array.from({ length: ROWS_AT_ONCE + 10 }, (_, n) => `k${n}`);
  const uses = keys.map((keyId, n) => ({ ...use, keyId, lastUsedAt: n % 3 === 0 ? AHEAD : RIGHT - 1 }));
  await db.usage.store({ id: 'b', at: 1, counts: [], uses });
  await db.time.bringBackUses(RIGHT);
  const rows = await scratch.sql('select last_used_at as at, count(*) as n from version_usage group by 1 order by 1');
  const back = keys.filter((_, n) => n % 3 === 0).length;
  expect(rows.map((row) => [Number(row['at']), Number(row['n'])])).toEqual([
    [RIGHT - 1, keys.length - back],
    [RIGHT, back],
  ]);
});
