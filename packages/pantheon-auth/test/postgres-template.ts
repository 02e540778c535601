/**
 * Once for a run of the project `postgres`: the database that all others are made of. It has our tables, empty, and in a
 * schema beside them the rows of an instance that has been started once: its RSA key alone takes longer to make than most
 * tests run. Vitest calls this in the main process.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { Client, escapeIdentifier } from 'pg';
import type { TestProject } from 'vitest/node';
import { createPantheonAuth } from '../src/pantheon-auth.ts';
import { postgres } from '../src/storage/postgres/postgres.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { postgresNode } from './postgres-node.ts';

/** What a test process needs in order to make databases for itself. */
export interface PostgresTemplate {
  /** A database whose name every database of this run begins with. */
  readonly name: string;
  /** Of the advisory locks by which test processes share databases, the first number. */
  readonly lockSpace: number;
}

declare module 'vitest' {
  interface ProvidedContext {
    /** Which database the tests of this project open. */
    store: 'sqlite' | 'postgres';
    postgresTemplate: PostgresTemplate | null;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { postgresUrl, postgresMissing } = project.getProvidedContext();
  if (postgresUrl === null) {
    process.stderr.write(
      `\n!!! SKIPPED, a server is missing: every test of the project postgres. ${postgresMissing ?? ''} !!!\n\n`,
    );
    project.provide('postgresTemplate', null);
    return async () => undefined;
  }
  const name = `pantheon_run_${randomBytes(6).toString('hex')}`;
  const url = new URL(postgresUrl);
  url.pathname = `/${name}`;
  await inDatabase(postgresUrl, (client) => client.query(`create database ${name}`));
  await postgres({ url: url.href }).migrate();
  // In the past of every clock that is used in a test, so that none is taken for one that was set back.
  const clock = new TestClock(Date.UTC(2025, 0, 1));
  await (await createPantheonAuth({ ...postgresNode(url.href), clock })).close();
  await inDatabase(url.href, keepRows);
  project.provide('postgresTemplate', { name, lockSpace: randomInt(2 ** 31) });
  // A private server goes away whole, and may have done so already.
  const isPrivate = (process.env['PANTHEON_AUTH_TEST_POSTGRES_URL'] ?? '') === '';
  return async () => {
    if (!isPrivate) await inDatabase(postgresUrl, (client) => dropAll(client, name));
  };
}

/** Moves the rows of all our tables to the schema `started`. */
async function keepRows(client: Client): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public' and tablename not like '%migration%'`,
  );
  const copies = rows.map(({ name }) => `create table started.${name} as table public.${name};`);
  await client.query(`create schema started; ${copies.join(' ')}`);
}

async function dropAll(client: Client, prefix: string): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    'select datname as name from pg_database where starts_with(datname, $1)',
    [prefix],
  );
  for (const { name } of rows) await client.query(`drop database if exists ${escapeIdentifier(name)} with (force)`);
}

async function inDatabase(connectionString: string, work: (client: Client) => Promise<unknown>): Promise<void> {
  const client = new Client({ connectionString });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
