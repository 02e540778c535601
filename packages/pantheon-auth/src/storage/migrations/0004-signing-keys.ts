/** When a signing key signs: those that exist do so since they were made. */
import { type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { SqlDialect } from '../dialect.ts';

export function tables0004(dialect: SqlDialect): Migration {
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema.alterTable('signing_keys').addColumn('signs_from', dialect.columnTypes.integer).execute();
      await sql`update signing_keys set signs_from = created_at`.execute(db);
    },
  };
}
