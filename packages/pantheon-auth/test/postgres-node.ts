/** What an instance on PostgreSQL is opened with in tests. */
import type { ScaledOutOptions } from '../src/engine/options.ts';
import type { DatabaseSource } from '../src/storage/database.ts';
import { postgres } from '../src/storage/postgres/postgres.ts';

export const ISSUER = 'https://auth.example.com';
/** All nodes of all databases have this one. */
export const MASTER_KEY: string = '0123456789abcdef'.repeat(4);

/** Who sees the text of every statement of every instance of this process. */
export const statementWatchers: Set<(sql: string) => void> = new Set();

/** Options of one more node. Limits are counted by each: Redis has tests of its own. */
export function postgresNode(url: string): ScaledOutOptions {
  const onStatement = (sql: string): void => {
    for (const watch of statementWatchers) watch(sql);
  };
  return {
    database: withoutStoreTime(postgres({ url, onStatement })),
    masterKey: MASTER_KEY,
    issuer: ISSUER,
    limits: 'local',
  };
}

/** In a test time is moved by hand, for all nodes at once; the server's own would be taken for the right one (I14). */
export function withoutStoreTime(source: DatabaseSource): DatabaseSource {
  return {
    open: async (context) => {
      const database = await source.open(context);
      const { log } = database;
      return {
        ...database,
        log: {
          headSync: log.headSync,
          onNotify: log.onNotify,
          head: async () => ({ ...(await log.head()), storeNow: null }),
          noticesFrom: (seq, limit) => log.noticesFrom(seq, limit),
        },
      };
    },
  };
}
