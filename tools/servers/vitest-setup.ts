/**
 * Gives a test run its servers: those of `PANTHEON_AUTH_TEST_POSTGRES_URL` and `PANTHEON_AUTH_TEST_REDIS_URL`, else one private
 * PostgreSQL and one private Redis, started at the same time and ended with the run. What cannot be had is said in one loud
 * line; where `CI` is set it fails the run, because a promise that was not checked is not kept.
 */
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { ProvidedContext } from 'vitest';
import type { TestProject } from 'vitest/node';
import { obtainPostgres, obtainRedis } from './binaries.ts';
import { startPostgres } from './postgres.ts';
import { shareTemplate } from './postgres-data.ts';
import { startRedis } from './redis.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A role that may create databases; null when there is no PostgreSQL. */
    postgresUrl: string | null;
    redisUrl: string | null;
    /** Why tests that start PostgreSQL servers of their own cannot run; null when they can. */
    postgresMissing: string | null;
    redisMissing: string | null;
  }
}

/** How a suite is known to need a server, for the line that names it. */
const POSTGRES_SUITE = /describeWith(Own)?Postgres|describeWithOwnServers/;
const REDIS_SUITE = /describeWith(Own)?Redis|describeWithOwnServers/;

/** What the first project of a run has, for those after it: each loads this file anew, and all run in one process. */
const SHARED_VARIABLE = 'PANTHEON_AUTH_TEST_SERVERS';

type Servers = Pick<ProvidedContext, 'postgresUrl' | 'redisUrl' | 'postgresMissing' | 'redisMissing'>;

/** Vitest calls this for each project, one after the other, before any test, and what it returns in the reverse order. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const shared = process.env[SHARED_VARIABLE];
  if (shared !== undefined) {
    provideAll(project, JSON.parse(shared) as Servers);
    return async () => undefined;
  }
  const [postgres, redis] = await Promise.all([
    provideServer(process.env['PANTHEON_AUTH_TEST_POSTGRES_URL'], obtainPostgres, async () => {
      await shareTemplate();
      return await startPostgres();
    }),
    provideServer(process.env['PANTHEON_AUTH_TEST_REDIS_URL'], obtainRedis, startRedis),
  ]);
  const teardown = async (): Promise<void> => {
    delete process.env[SHARED_VARIABLE];
    await Promise.all([postgres.close(), redis.close()]);
  };
  const missing = [postgres, redis].flatMap(({ why }) => (why === null ? [] : [why]));
  if (missing.length > 0 && isCi()) {
    await teardown();
    throw new Error(`CI skips no suite. ${missing.join('; ')}`);
  }
  if (missing.length > 0) {
    const suites = await suitesOf(project, postgres.why !== null, redis.why !== null);
    console.warn(`\n!!! SKIPPED, a server is missing: ${suites.join(', ') || 'no suite'}. ${missing.join('; ')} !!!\n`);
  }
  const servers: Servers = {
    postgresUrl: postgres.url,
    redisUrl: redis.url,
    postgresMissing: postgres.why,
    redisMissing: redis.why,
  };
  process.env[SHARED_VARIABLE] = JSON.stringify(servers);
  provideAll(project, servers);
  return teardown;
}

function provideAll(project: TestProject, servers: Servers): void {
  project.provide('postgresUrl', servers.postgresUrl);
  project.provide('redisUrl', servers.redisUrl);
  project.provide('postgresMissing', servers.postgresMissing);
  project.provide('redisMissing', servers.redisMissing);
}

interface Provided {
  readonly url: string | null;
  /** Why servers of this kind cannot be started here. */
  readonly why: string | null;
  readonly close: () => Promise<void>;
}

/**
 * With a URL nothing is started. The programs are asked for all the same: fault tests kill servers, and none but their own.
 * @param given from the environment.
 */
async function provideServer(
  given: string | undefined,
  obtain: () => Promise<unknown>,
  start: () => Promise<AsyncDisposable & { readonly url: string }>,
): Promise<Provided> {
  const url = given === undefined || given === '' ? null : given;
  const nothing = async (): Promise<void> => undefined;
  try {
    await obtain();
  } catch (error) {
    return { url, why: error instanceof Error ? error.message : String(error), close: nothing };
  }
  if (url !== null) return { url, why: null, close: nothing };
  // A server that is here and does not start is an error everywhere: it would hide as a skip.
  const server = await start();
  return { url: server.url, why: null, close: async () => await server[Symbol.asyncDispose]() };
}

function isCi(): boolean {
  return !['', '0', 'false', undefined].includes(process.env['CI']);
}

async function suitesOf(project: TestProject, postgres: boolean, redis: boolean): Promise<readonly string[]> {
  const found = await Promise.all(project.vitest.projects.map((each) => each.globTestFiles()));
  return [...new Set(found.flatMap(({ testFiles }) => testFiles))]
    .filter((file) => {
      const text = readFileSync(file, 'utf8');
      return (postgres && POSTGRES_SUITE.test(text)) || (redis && REDIS_SUITE.test(text));
    })
    .map((file) => relative(project.vitest.config.root, file));
}
