import { availableParallelism } from 'node:os';
import { configDefaults, defineConfig } from 'vitest/config';

/** The same test files on the other database. Files named `.sqlite.test.ts` or `.postgres.test.ts` are about one of them. */
export const STORED: readonly string[] = [
  'packages/pantheon-auth/src/storage/sql-*.test.ts',
  'packages/pantheon-auth/src/storage/*.postgres.test.ts',
  'packages/pantheon-auth/src/api-keys/{key-changes,key-manager,key-revocation,key-rotation,key-storage,key-validator}.test.ts',
  'packages/pantheon-auth/src/commands/*.test.ts',
  'packages/pantheon-auth/src/{jwt-handler,events/audit-log,jwt/signing-keyring,jwt/token-verifier,tenants/tenant-manager}.test.ts',
  'packages/pantheon-auth/src/jobs/job-{processes,runner}.test.ts',
  'packages/pantheon-auth/src/log-consumers/*.test.ts',
  'packages/pantheon-auth/test/**/*.test.ts',
];

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
    // A list: a project adds its own to it.
    globalSetup: ['tools/servers/vitest-setup.ts'],
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
        },
      },
      {
        extends: true,
        test: {
          name: 'postgres',
          include: [...STORED],
          exclude: [...configDefaults.exclude, '**/*.sqlite.test.ts'],
          provide: { store: 'postgres' },
          globalSetup: ['tools/servers/vitest-setup.ts', 'packages/pantheon-auth/test/postgres-template.ts'],
          setupFiles: 'packages/pantheon-auth/test/needs-postgres.ts',
        },
      },
      { extends: true, test: { name: 'faults', include: [FAULTS], fileParallelism: false } },
      { extends: true, test: { name: 'loop', include: [LOOP], fileParallelism: false } },
    ],
    // Servers are started and stopped in hooks.
    hookTimeout: 60_000,
    coverage: {
      provider: 'v8',
      include: ['packages/pantheon-auth/src/**/*.ts'],
      // What runs in a thread of its own is not seen from here; `sqlite-wal`, `-inspector` and `-reader-thread.test.ts` run it.
      exclude: ['**/*.test.ts', '**/*-worker.ts'],
      reporter: ['text-summary', 'json-summary', 'text'],
      thresholds: { lines: 95, branches: 95 },
    },
  },
});
