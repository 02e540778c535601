/**
 * The second tables, as steps. One release is one migration, so that nodes of two releases in a row can share a database
 * (`schema.ts`); each step is about one thing.
 */
import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { SqlDialect } from '../dialect.ts';
import { eventsByActor } from './0002-events-by-actor.ts';
import { idTags } from './0002-id-tags.ts';
import { keyCounts } from './0002-key-counts.ts';
import { listIndexes } from './0002-list-indexes.ts';
import { tenantAudiences } from './0002-tenant-audiences.ts';
import { usageRollUps } from './0002-usage-roll-ups.ts';

/** One part of a migration. */
export type MigrationStep = (db: Kysely<unknown>, dialect: SqlDialect) => Promise<void>;

const STEPS: readonly MigrationStep[] = [idTags, eventsByActor, tenantAudiences, usageRollUps, listIndexes, keyCounts];

export function tables0002(dialect: SqlDialect): Migration {
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      for (const step of STEPS) await step(db, dialect);
    },
  };
}
