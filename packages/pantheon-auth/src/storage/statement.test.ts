import { DatabaseSync } from 'node:sqlite';
import { Kysely } from 'kysely';
import { expect, test } from 'vitest';
import { systemClock } from '../foundation/clock.ts';
import { NodeSqliteDialect } from './sqlite/sqlite-dialect.ts';
import { statement } from './statement.ts';
import type { Tables } from './tables.ts';

test('a statement is compiled once, binds parameters by name, and keeps its constants', () => {
  using database = new DatabaseSync(':memory:');
  const dialect = new NodeSqliteDialect({ database, clock: systemClock, role: 'reader', onStatement: null });
  const db = new Kysely<Tables>({ dialect });
  const find = statement<{ readonly name: string; readonly value: string }, { name: string }>((parameter) =>
    db
      .selectFrom('meta')
      .select('name')
      .where('value', '=', parameter('value'))
      .where('name', '!=', 'constant')
      .where('name', '=', parameter('name'))
      .limit(3),
  );
  const a = find({ name: 'n', value: 'v' });
  const b = find({ value: `' or 1=1 --`, name: '?' });
  expect(a.parameters).toEqual(['v', 'constant', 'n', 3]);
  expect(b.parameters).toEqual([`' or 1=1 --`, 'constant', '?', 3]);
  expect(b.sql).toBe(a.sql);
});
