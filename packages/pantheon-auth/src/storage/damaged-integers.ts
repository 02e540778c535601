/**
 * Which queries read integers that a number cannot hold exactly. This service writes none, so by default they fail the
 * query: nothing is decided by a damaged number. A query that reads the rows of several owners must not fail for one
 * row: it gets a bigint instead (`schema/as-stored.ts`), and its reader says what becomes of that row.
 */
import type { CompiledQuery, Kysely, KyselyPlugin, QueryId } from 'kysely';
import type { AsStored } from '../schema/as-stored.ts';
import type { Tables } from './tables.ts';

export type StoredTables = { readonly [Table in keyof Tables]: AsStored<Tables[Table]> };

const readAsBigInts = new WeakSet<QueryId>();

const MARK: KyselyPlugin = {
  transformQuery: ({ node, queryId }) => {
    readAsBigInts.add(queryId);
    return node;
  },
  transformResult: async ({ result }) => result,
};

/** The same database, for queries that only select: SQLite runs a query again when it meets a damaged integer. */
export function withDamagedRows(db: Kysely<Tables>): Kysely<StoredTables> {
  return db.withPlugin(MARK) as unknown as Kysely<StoredTables>;
}

/** Whether the drivers give a bigint for a damaged integer, instead of failing the query. */
export function readsDamagedRows({ queryId }: CompiledQuery): boolean {
  return readAsBigInts.has(queryId);
}
