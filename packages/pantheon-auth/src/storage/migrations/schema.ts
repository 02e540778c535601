/** Brings the tables up to date, or refuses those that are not ours to change or not ours to understand. */
import { type Kysely, sql } from 'kysely';
import { type Migration, Migrator } from 'kysely/migration';
import { PantheonError } from '../../foundation/errors.ts';
import type { SqlDialect } from '../dialect.ts';
import type { Tables } from '../tables.ts';
import { migrations, SCHEMA_MIN } from './migrations.ts';

/** A database, for its schema. */
export interface MigrationTarget {
  readonly db: Kysely<Tables>;
  readonly dialect: SqlDialect;
  /** How an error names it. Never with a password. */
  readonly name: string;
  /** The schema to make when it is missing; null: it is there. */
  readonly schema?: string | null;
  /** Other migrations than ours, for tests. */
  readonly known?: Readonly<Record<string, Migration>>;
  /** The oldest schema to work on. Another than ours for tests. */
  readonly oldest?: string;
}

/**
 * Runs what has not been run, all of it in one transaction: a crash leaves the old tables or the new ones. A second
 * process that starts at the same moment waits for the lock and then finds nothing to do. Answers the names of what ran.
 *
 * @throws PantheonError `schema_too_new`, `store_unusable`
 */
export async function migrate(place: MigrationTarget): Promise<readonly string[]> {
  const { db, dialect } = place;
  const known = place.known ?? migrations(dialect);
  return db.transaction().execute(async (transaction) => {
    await dialect.lockSchema(transaction);
    if (place.schema != null) await dialect.makeSchema(transaction, place.schema);
    const applied = await appliedMigrations(transaction, dialect);
    if (applied === null) await assertEmpty(transaction, place);
    else assertKnown(applied, known, place.name);
    const schema = await dialect.schemaName(transaction);
    const migrator = new Migrator({
      db: transaction,
      provider: { getMigrations: async () => ({ ...known }) },
      migrationTableName: dialect.migrationTable,
      migrationLockTableName: `${dialect.migrationTable}_lock`,
      ...(schema !== null && { migrationTableSchema: schema }),
    });
    const { error, results } = await migrator.migrateToLatest();
    if (error !== undefined) throw error;
    // A write that changes no row (the head's id is another). SQLite opens a file that it may not write for reading, and
    // then even `begin immediate` succeeds: this is where a read-only store shows at the start, not at the first change.
    await transaction.updateTable('log_head').set({ seq: 0 }).where('id', '=', 0).execute();
    return (results ?? []).map((result) => result.migrationName);
  });
}

/**
 * Whether this version can work on these tables as they are: on its own, and on those of the version before unless
 * {@link SCHEMA_MIN} says otherwise, so that nodes are replaced one by one and the tables are brought up to date when all
 * of them are new.
 *
 * @throws PantheonError `schema_too_old`, `schema_too_new`
 */
export async function assertSchema(place: MigrationTarget): Promise<void> {
  const { db, dialect, name } = place;
  const known = place.known ?? migrations(dialect);
  const applied = (await appliedMigrations(db, dialect)) ?? [];
  assertKnown(applied, known, name);
  const missing = Object.keys(known).length - applied.length;
  const isBelowMin = !applied.includes(place.oldest ?? SCHEMA_MIN);
  if (applied.length === 0 || missing > 1 || isBelowMin) {
    const what = applied.length === 0 ? 'has no tables of ours yet' : `lacks ${missing} migration(s)`;
    throw new PantheonError('schema_too_old', { detail: `${name} ${what}. Run: pantheon-auth migrate` });
  }
}

/** Null: none were ever run here. */
async function appliedMigrations(db: Kysely<Tables>, dialect: SqlDialect): Promise<readonly string[] | null> {
  const tables = await dialect.tableNames(db);
  if (!tables.includes(dialect.migrationTable)) return null;
  const { rows } = await sql<{ name: string }>`select name from ${sql.table(dialect.migrationTable)}`.execute(db);
  return rows.map((row) => row.name);
}

function assertKnown(applied: readonly string[], known: Readonly<Record<string, Migration>>, name: string): void {
  if (applied.some((migration) => !Object.hasOwn(known, migration)))
    throw new PantheonError('schema_too_new', {
      detail: `${name} was written by a newer version. Run that version.`,
    });
}

/** Of the tables of another program nothing is touched. */
async function assertEmpty(db: Kysely<Tables>, { dialect, name }: MigrationTarget): Promise<void> {
  const tables = await dialect.tableNames(db);
  const inTheWay = dialect.isOurDatabaseAlone ? tables : tables.filter((table) => OUR_TABLES.includes(table));
  if (inTheWay.length === 0) return;
  const remedy = dialect.isOurDatabaseAlone ? 'Give another path.' : 'Give a database or a schema of its own.';
  throw new PantheonError('store_unusable', { detail: `${name}: is the database of another program. ${remedy}` });
}

const OUR_TABLES: readonly string[] = ['tenants', 'api_keys', 'events', 'log_head', 'meta'];
