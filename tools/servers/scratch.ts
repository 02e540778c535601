/**
 * For test files: an empty space of one's own on the servers of the run, and `describe` for suites that need a server. A suite
 * whose server is missing is skipped with the reason in its name; where `CI` is set the run has failed before.
 */
import { describe, inject } from 'vitest';
import { newDatabaseName, withClient, withDatabase } from './postgres.ts';
import { redisCommand, withRedis } from './redis.ts';
// For the names that it provides.
import type {} from './vitest-setup.ts';

/** An empty space, gone when disposed of. */
export interface Scratch extends AsyncDisposable {
  readonly url: string;
}

/** A claim of a crashed run on a server that outlives it ends by itself; no test file takes this long. */
const CLAIM_SECONDS = 3_600;
const CLAIM_PREFIX = 'pantheon-auth-test:claimed-database:';

/** A new database on the server of the run. @throws when there is none: use `describeWithPostgres`. */
export async function scratchPostgres(): Promise<Scratch> {
  const server = serverUrl('postgresUrl');
  const name = newDatabaseName();
  await withClient(server, (client) => client.query(`create database ${name}`));
  return {
    url: withDatabase(server, name),
    [Symbol.asyncDispose]: async () => {
      await withClient(server, (client) => client.query(`drop database if exists ${name} with (force)`));
    },
  };
}

/**
 * A database number of the run's Redis that no other test file has, empty. Claimed in database 0 by a command that is atomic,
 * so that parallel runs may share a server. Do not use FLUSHALL, SCRIPT FLUSH or CONFIG SET here: they reach the other
 * numbers too; `startRedis` gives a server for that. @throws when there is none: use `describeWithRedis`.
 */
export async function scratchRedis(): Promise<Scratch> {
  const server = serverUrl('redisUrl');
  const { claim, number } = await withRedis(server, claimDatabase);
  const url = withDatabase(server, String(number));
  await redisCommand(url, ['FLUSHDB']);
  return {
    url,
    [Symbol.asyncDispose]: async () => {
      await redisCommand(url, ['FLUSHDB']);
      await redisCommand(server, ['DEL', claim]);
    },
  };
}

async function claimDatabase(
  command: (...args: readonly string[]) => Promise<unknown>,
): Promise<{ readonly claim: string; readonly number: number }> {
  const [, databases = '16'] = (await command('CONFIG', 'GET', 'databases')) as readonly string[];
  for (let number = 1; number < Number(databases); number += 1) {
    const claim = `${CLAIM_PREFIX}${number}`;
    if ((await command('SET', claim, '1', 'NX', 'EX', String(CLAIM_SECONDS))) === 'OK') return { claim, number };
  }
  throw new Error(`all ${databases} databases of the Redis server are in use`);
}

/** For suites on `scratchPostgres`. */
export function describeWithPostgres(name: string, fn: () => void): void {
  describeUnless(inject('postgresUrl') === null ? inject('postgresMissing') : null, name, fn);
}

/** For suites on `scratchRedis`. */
export function describeWithRedis(name: string, fn: () => void): void {
  describeUnless(inject('redisUrl') === null ? inject('redisMissing') : null, name, fn);
}

/** For suites that start PostgreSQL servers of their own. */
export function describeWithOwnPostgres(name: string, fn: () => void): void {
  describeUnless(inject('postgresMissing'), name, fn);
}

/** For suites that start Redis servers of their own. */
export function describeWithOwnRedis(name: string, fn: () => void): void {
  describeUnless(inject('redisMissing'), name, fn);
}

/** For suites that start both. */
export function describeWithOwnServers(name: string, fn: () => void): void {
  describeUnless(inject('postgresMissing') ?? inject('redisMissing'), name, fn);
}

function describeUnless(missing: string | null, name: string, fn: () => void): void {
  if (missing === null) describe(name, fn);
  else describe.skip(`${name} [skipped: ${missing}]`, fn);
}

function serverUrl(kind: 'postgresUrl' | 'redisUrl'): string {
  const url = inject(kind);
  if (url === null) throw new Error(inject(kind === 'postgresUrl' ? 'postgresMissing' : 'redisMissing') ?? kind);
  return url;
}
