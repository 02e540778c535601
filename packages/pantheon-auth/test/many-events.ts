/** A long log in a moment. */
import { LEAF_RANDOM_BYTES, leafHash } from '../src/events/merkle.ts';
import { type ScratchDatabase, STORE } from './store.ts';

/** Appends so many events to an empty log, in one statement. What they say is filler. */
export async function addEvents({ sql }: Pick<ScratchDatabase, 'sql'>, many: number): Promise<void> {
  const numbers =
    STORE === 'postgres'
      ? 'select n from generate_series(1, ?::bigint) as n'
      : 'with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ?) select n from numbers';
  const bytes = (value: Uint8Array): string => {
    const hex = Buffer.from(value).toString('hex');
    return STORE === 'postgres' ? `'\\x${hex}'::bytea` : `x'${hex}'`;
  };
  const random = new Uint8Array(LEAF_RANDOM_BYTES);
  await sql(
    `insert into events (seq, id, at, tenant_id, type, subject_type, subject_id, body, leaf_random, leaf)
    select n, 'event-' || n, 1000, 'default', 'key.exposed_in_url', 'key', 'key-1', '{}', ${bytes(random)}, ${bytes(leafHash(random, '{}'))}
    from (${numbers}) as numbered order by n`,
    many,
  );
  await sql('update log_head set seq = ?, at = 1000', many);
}
