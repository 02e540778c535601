/** The Kysely dialect over `PostgresConnection`, for the pool and the session. */
import {
  type DatabaseIntrospector,
  type Dialect,
  type DialectAdapter,
  type Driver,
  type Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryCompiler,
} from 'kysely';
import type { PostgresConnection } from './postgres-connection.ts';

/** Hands out connections. */
export interface ConnectionSource {
  acquire(): Promise<PostgresConnection>;
  release(connection: PostgresConnection): void;
}

export class PostgresDialect implements Dialect {
  readonly #source: ConnectionSource;

  constructor(source: ConnectionSource) {
    this.#source = source;
  }

  createAdapter(): DialectAdapter {
    return new PostgresAdapter();
  }

  createDriver(): Driver {
    const source = this.#source;
    return {
      init: async () => {},
      acquireConnection: () => source.acquire(),
      beginTransaction: (connection) => (connection as PostgresConnection).begin(),
      commitTransaction: (connection) => (connection as PostgresConnection).commit(),
      rollbackTransaction: (connection) => (connection as PostgresConnection).rollback(),
      releaseConnection: async (connection) => source.release(connection as PostgresConnection),
      // Connections are opened and closed by `postgres.ts`.
      destroy: async () => {},
    };
  }

  createQueryCompiler(): QueryCompiler {
    return new PostgresQueryCompiler();
  }

  createIntrospector(db: Kysely<unknown>): DatabaseIntrospector {
    return new PostgresIntrospector(db);
  }
}
