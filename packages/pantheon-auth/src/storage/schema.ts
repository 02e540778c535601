/** Brings the tables up to date, or refuses a file that is not ours to change. */
import { type Kysely, sql } from 'kysely';
import { Migrator } from 'kysely/migration';
import { PantheonError } from '../foundation/errors.ts';
import type { SqlDialect } from './dialect.ts';
import { migrations } from './migrations/migrations.ts';
import { unusable } from './sqlite-file.ts';
import type { Tables } from './tables.ts';

/** Where the migrator keeps the names of what it ran. */
const MIGRATION_TABLE = 'kysely_migration';

/**
 * Runs what has not been run, all of it in one transaction: a crash leaves the old tables or the new ones. A second
 * process that starts at the same moment waits for the lock and then finds nothing to do.
 *
 * @throws PantheonError `schema_too_new`, `store_unusable`
 */
export async function migrate(db: Kysely<Tables>, dialect: SqlDialect, path: string): Promise<void> {
  const known = migrations(dialect);
  await db.transaction().execute(async (transaction) => {
    const tables = await transaction.introspection.getTables({ withInternalKyselyTables: true });
    if (tables.some((table) => table.name === MIGRATION_TABLE)) {
      const { rows } = await sql<{ name: string }>`select name from ${sql.table(MIGRATION_TABLE)}`.execute(transaction);
      const unknown = rows.find((row) => !Object.hasOwn(known, row.name));
      if (unknown !== undefined)
        throw new PantheonError('schema_too_new', {
          detail: `${path} was written by a newer version. Run that version.`,
        });
    } else if (tables.length > 0) {
      throw unusable(path, 'is the database of another program. Give another path.');
    }
    const migrator = new Migrator({ db: transaction, provider: { getMigrations: async () => ({ ...known }) } });
    const { error } = await migrator.migrateToLatest();
    if (error !== undefined) throw error;
    // A write that changes no row (the head's id is another). SQLite opens a file that it may not write for reading, and
    // then even `begin immediate` succeeds: this is where a read-only store shows at the start, not at the first change.
    await transaction.updateTable('log_head').set({ seq: 0 }).where('id', '=', 0).execute();
  });
}
