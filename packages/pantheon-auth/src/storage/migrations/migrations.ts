/** Every migration in order. Static imports: nothing is found by reading a folder, so a bundle has them all. */
import type { Migration } from 'kysely/migration';
import type { SqlDialect } from '../dialect.ts';
import { tables0001 } from './0001-tables.ts';

/** By name; the names sort in the order in which they run, and never change. */
export function migrations(dialect: SqlDialect): Readonly<Record<string, Migration>> {
  return { '0001-tables': tables0001(dialect) };
}
