/** The programs of the servers are found where they are, and in the newest version. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findPgBouncer, findPostgres, findRedis, newestFirst } from './binaries.ts';

let root = '';

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'binaries-'));
});

afterEach(() => rmSync(root, { recursive: true }));

function put(folder: string, names: readonly string[], mode = 0o755): string {
  const path = join(root, folder);
  mkdirSync(path, { recursive: true });
  for (const name of names) {
    writeFileSync(join(path, name), '');
    chmodSync(join(path, name), mode);
  }
  return path;
}

const ALL = ['initdb', 'postgres', 'pg_basebackup'];

test('the newest version is used, compared by number and not by letter', () => {
  put('9/bin', ALL);
  put('17/bin', ALL);
  put('15/bin', ALL);
  expect(newestFirst(join(root, '*/bin'))).toEqual(['17', '15', '9'].map((version) => join(root, version, 'bin')));
});

test('PostgreSQL is found as a folder with all of its programs', () => {
  const partial = put('wrappers', ['pg_basebackup']);
  const whole = put('15/bin', ALL);
  expect(findPostgres([partial, whole])?.postgres).toBe(join(whole, 'postgres'));
  expect(findPostgres([partial])).toBeNull();
});

test('Valkey is used as Redis, and a file that cannot be executed as neither', () => {
  const broken = put('broken', ['redis-server'], 0o644);
  const valkey = put('valkey', ['valkey-server']);
  expect(findRedis([broken, valkey])).toBe(join(valkey, 'valkey-server'));
  expect(findRedis([broken])).toBeNull();
});

test('PgBouncer is found as a program, and not as any file of that name', () => {
  const broken = put('broken', ['pgbouncer'], 0o644);
  const whole = put('whole', ['pgbouncer']);
  expect(findPgBouncer([broken, whole])).toBe(join(whole, 'pgbouncer'));
  expect(findPgBouncer([broken])).toBeNull();
});
