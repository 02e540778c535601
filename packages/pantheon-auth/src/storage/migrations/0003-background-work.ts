/** Tables for work in the background, as steps like those of `0002-second-tables.ts`. */
import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { SqlDialect } from '../dialect.ts';
import type { MigrationStep } from './0002-second-tables.ts';
import { jobLeases } from './0003-job-leases.ts';
import { logConsumers } from './0003-log-consumers.ts';

const STEPS: readonly MigrationStep[] = [jobLeases, logConsumers];

export function tables0003(dialect: SqlDialect): Migration {
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      for (const step of STEPS) await step(db, dialect);
    },
  };
}
