import { availableParallelism } from 'node:os';
import { configDefaults, defineConfig } from 'vitest/config';

/** The same test files on the other database. Files named `.sqlite.test.ts` or `.postgres.test.ts` are about one of them. */
export const STORED: readonly string[] = [
  'packages/pantheon-auth/src/storage/**/sql-*.test.ts',
  'packages/pantheon-auth/src/storage/**/*.postgres.test.ts',
  'packages/pantheon-auth/src/api-keys/{key-changes,key-manager,key-revocation,key-rotation,key-storage,key-validator}.test.ts',
  'packages/pantheon-auth/src/commands/*.test.ts',
  'packages/pantheon-auth/src/{jwt-handler,events/audit-log,jwt/signing-keyring,jwt/token-verifier,tenants/tenant-manager}.test.ts',
  'packages/pantheon-auth/src/jobs/job-{processes,runner}.test.ts',
  'packages/pantheon-auth/src/log-consumers/*.test.ts',
  'packages/pantheon-auth/test/**/*.test.ts',
];

/** What needs no server and no database: seconds, for while one works. All of it is in the project `sqlite` too. Not here: the million keys of `key-generator.test.ts`. */
export const UNIT: readonly string[] = [
  'packages/pantheon-auth/src/{domain,foundation}/*.test.ts',
  'packages/pantheon-auth/src/api-keys/{id-tag,key-generator.format,key-input,key-patch,verification-attempt}.test.ts',
  'packages/pantheon-auth/src/verification/{cold-reads,sender,verification-cache}.test.ts',
  'packages/pantheon-auth/src/events/{event-feed,merkle}.test.ts',
  'packages/pantheon-auth/src/jobs/job-lease.test.ts',
  'packages/pantheon-auth/src/jwt/{jws,jws.strict,verification-key}.test.ts',
  'packages/pantheon-auth/src/rate-limit/{quota-lease,rate-limiter,redis/redis-url,sender-buckets}.test.ts',
  'packages/pantheon-auth/src/rate-limit/memory/*.test.ts',
  'packages/pantheon-auth/src/storage/{statement,postgres/postgres-errors,postgres/postgres-url,sqlite/sqlite-errors,sqlite/sqlite-inspection}.test.ts',
  'packages/pantheon-auth/src/testing/test-clock.test.ts',
];

/** Gives a project its PostgreSQL and Redis. */
const SERVERS = 'tools/servers/vitest-setup.ts';

/** Real processes under faults: they measure, so nothing else runs beside them. */
const FAULTS = 'test/faults/{revocation,limits,usage}.test.ts';

/** How long calls hold the event loop, on a large store: it measures too. */
const LOOP = 'test/event-loop/*.test.ts';

export default defineConfig({
  ssr: { resolve: { conditions: ['source', 'node'], externalConditions: ['source'] } },
  resolve: { conditions: ['source', 'node'] },
  test: {
    pool: 'forks',
    // Many tests wait for servers: on a small machine one worker would leave it idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 30_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'sqlite',
          include: [
            'packages/*/src/**/*.test.ts',
            'packages/*/test/**/*.test.ts',
            'test/**/*.test.ts',
            'tools/**/*.test.ts',
          ],
          exclude: [...configDefaults.exclude, '**/*.postgres.test.ts', FAULTS, LOOP],
          provide: { store: 'sqlite' },
          globalSetup: [SERVERS],
        },
      },
      {
        extends: true,
        test: {
          name: 'postgres',
          include: [...STORED],
          exclude: [...configDefaults.exclude, '**/*.sqlite.test.ts'],
          provide: { store: 'postgres' },
          globalSetup: [SERVERS, 'packages/pantheon-auth/test/postgres-template.ts'],
          setupFiles: 'packages/pantheon-auth/test/needs-postgres.ts',
        },
      },
      { extends: true, test: { name: 'unit', include: [...UNIT] } },
      { extends: true, test: { name: 'faults', include: [FAULTS], fileParallelism: false, globalSetup: [SERVERS] } },
      { extends: true, test: { name: 'loop', include: [LOOP], fileParallelism: false, globalSetup: [SERVERS] } },
    ],
    // Servers are started and stopped in hooks.
    hookTimeout: 60_000,
    coverage: {
      provider: 'v8',
      include: ['packages/pantheon-auth/src/**/*.ts'],
      // What runs in a thread of its own is not seen from here; `sqlite-wal`, `-inspector` and `-reader-thread.test.ts` run it.
      exclude: ['**/*.test.ts', '**/*-worker.ts'],
      reporter: ['text-summary', 'json-summary', 'text'],
      // The figures are wanted most when something else fails too.
      reportOnFailure: true,
      thresholds: { lines: 95, branches: 95 },
    },
  },
});
