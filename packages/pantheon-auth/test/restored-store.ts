/** A store that an earlier version wrote, restored for one test on the database of the project. Use it with `await using`. */
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import { newDatabaseName, withClient, withDatabase } from '../../../tools/servers/postgres.ts';
import type { PantheonAuthOptions } from '../src/engine/options.ts';
import { postgres } from '../src/storage/postgres/postgres.ts';
import { ISSUER, postgresNode } from './postgres-node.ts';
import { inFile, STORE } from './store.ts';
import { STORES_FOLDER, type StoredContents } from './stored-contents.ts';

const FIXTURES = fileURLToPath(STORES_FOLDER);

/** The names of all that are kept. */
export const STORED_FIXTURES: readonly string[] = readdirSync(FIXTURES);

export interface RestoredStore extends AsyncDisposable {
  readonly contents: StoredContents;
  readonly options: PantheonAuthOptions;
  /** Runs a statement past every node. SQLite has its new tables only when it was opened once. */
  sql(text: string): Promise<unknown>;
}

/** `before`: statements that run on it as the version before left it. */
export async function restoreStore(name: string, before: readonly string[] = []): Promise<RestoredStore> {
  const contents = JSON.parse(readFileSync(join(FIXTURES, name, `${STORE}.json`), 'utf8')) as StoredContents;
  if (STORE === 'postgres') return restoreDump(contents, join(FIXTURES, name, 'postgres.sql'), before);
  const dataDir = mkdtempSync(join(tmpdir(), 'pantheon-auth-'));
  const file = join(dataDir, 'pantheon-auth.db');
  copyFileSync(join(FIXTURES, name, 'sqlite.db'), file);
  for (const statement of before) await inFile(file, statement, []);
  return {
    contents,
    options: { dataDir, issuer: ISSUER, masterKey: contents.masterKey },
    sql: async (text) => inFile(file, text, []),
    [Symbol.asyncDispose]: async () => rmSync(dataDir, { recursive: true, force: true }),
  };
}

async function restoreDump(contents: StoredContents, file: string, before: readonly string[]): Promise<RestoredStore> {
  const server = inject('postgresUrl') ?? '';
  const database = newDatabaseName();
  await withClient(server, (client) => client.query(`create database ${database}`));
  const url = withDatabase(server, database);
  await withClient(url, (client) => client.query(readFileSync(file, 'utf8')));
  for (const statement of before) await withClient(url, (client) => client.query(statement));
  await postgres({ url }).migrate();
  return {
    contents,
    options: postgresNode(url),
    sql: (text) => withClient(url, (client) => client.query(text)),
    [Symbol.asyncDispose]: async () => {
      await withClient(server, (client) => client.query(`drop database if exists ${database} with (force)`));
    },
  };
}
