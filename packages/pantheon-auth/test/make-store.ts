/**
 * Writes a stored fixture with the version that is checked out: `npm run fixture:store -- NAME`. Run it before a change of
 * what is stored; the files are then part of the repository, and `stored-fixtures.test.ts` opens them ever after.
 */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startPostgres } from '../../../tools/servers/postgres.ts';
import type { PantheonAuthOptions } from '../src/engine/options.ts';
import { createPantheonAuth } from '../src/pantheon-auth.ts';
import { postgres } from '../src/storage/postgres/postgres.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { ISSUER, MASTER_KEY, postgresNode } from './postgres-node.ts';
import { fillStore, STORES_FOLDER } from './stored-contents.ts';

const MADE_AT = Date.UTC(2026, 0, 1);

async function makeContents(options: PantheonAuthOptions): Promise<string> {
  const clock = new TestClock(MADE_AT);
  const auth = await createPantheonAuth({ ...options, clock });
  const contents = await fillStore(auth, clock);
  await auth.close();
  return `${JSON.stringify({ ...contents, masterKey: MASTER_KEY }, null, 2)}\n`;
}

async function makeSqlite(folder: string): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), 'pantheon-auth-fixture-'));
  const contents = await makeContents({ dataDir, issuer: ISSUER, masterKey: MASTER_KEY });
  copyFileSync(join(dataDir, 'pantheon-auth.db'), join(folder, 'sqlite.db'));
  writeFileSync(join(folder, 'sqlite.json'), contents);
  rmSync(dataDir, { recursive: true });
}

async function makePostgres(folder: string): Promise<void> {
  await using server = await startPostgres();
  const url = await server.createDatabase();
  await postgres({ url }).migrate();
  const contents = await makeContents(postgresNode(url));
  const dump = ['--inserts', '--no-owner', '--no-privileges', url];
  const { stdout } = await promisify(execFile)('pg_dump', dump, { maxBuffer: 2 ** 26 });
  // Commands of psql, which only psql understands.
  const sql = stdout.split('\n').filter((line) => !line.startsWith('\\'));
  writeFileSync(join(folder, 'postgres.sql'), sql.join('\n'));
  writeFileSync(join(folder, 'postgres.json'), contents);
}

const [name = ''] = process.argv.slice(2);
if (!/^[a-z0-9-]+$/.test(name)) throw new Error('Name the fixture: letters, digits and dashes.');
const folder = join(fileURLToPath(STORES_FOLDER), name);
mkdirSync(folder);
await makeSqlite(folder);
await makePostgres(folder);
