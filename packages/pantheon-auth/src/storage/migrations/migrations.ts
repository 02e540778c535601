/** Every migration in order. Static imports: nothing is found by reading a folder, so a bundle has them all. */
import type { Migration } from 'kysely/migration';
import type { SqlDialect } from '../dialect.ts';
import { tables0001 } from './0001-tables.ts';
import { tables0002 } from './0002-second-tables.ts';
import { tables0003 } from './0003-background-work.ts';
import { tables0004 } from './0004-signing-keys.ts';
import { tables0005 } from './0005-key-schedules.ts';

/**
 * The oldest schema that this version works on. Usually that is the one before its own; it is its own where nodes of both
 * versions must not run at the same time.
 */
export const SCHEMA_MIN = '0005-key-schedules';

/** By name; the names sort in the order in which they run, and never change. */
export function migrations(dialect: SqlDialect): Readonly<Record<string, Migration>> {
  return {
    '0001-tables': tables0001(dialect),
    '0002-second-tables': tables0002(dialect),
    '0003-background-work': tables0003(dialect),
    '0004-signing-keys': tables0004(dialect),
    [SCHEMA_MIN]: tables0005(dialect),
  };
}
