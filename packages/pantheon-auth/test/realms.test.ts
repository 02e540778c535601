/**
 * Under Jest, and wherever code runs in a context of `node:vm`, errors, promises and bytes of Node are of other classes than
 * those of the code: what they are is told by their shape, and a class is asked for only where it is ours.
 */
import { globSync, readFileSync } from 'node:fs';
import { createContext, runInContext } from 'node:vm';
import { expect, test, vi } from 'vitest';
import { codeOf, hasCode, messageOf, PantheonError } from '../src/foundation/errors.ts';
import { isPromise } from '../src/foundation/is-promise.ts';
import { toPantheonError as ofPostgres, toCommitError, toOpenError } from '../src/storage/postgres/postgres-errors.ts';
import { isBusy, toPantheonError as ofSqlite } from '../src/storage/sqlite/sqlite-errors.ts';

const elsewhere = createContext({});
const foreign = (source: string): unknown => runInContext(source, elsewhere);
const foreignError = (members: object, message = 'it failed'): unknown =>
  foreign(`Object.assign(new Error(${JSON.stringify(message)}), ${JSON.stringify(members)})`);
const codeOfOurs = (error: unknown): unknown => (error as PantheonError).code;

test('these tests compare values of another realm', () => {
  expect([foreignError({}) instanceof Error, foreign('Promise.resolve()') instanceof Promise]).toEqual([false, false]);
});

test('an error of another realm has its code and its message, and a value that is no error has none', () => {
  expect(codeOf(foreignError({ code: 'ENOENT' }))).toBe('ENOENT');
  expect(hasCode(foreignError({ code: 'ENOENT' }), 'ENOENT')).toBe(true);
  expect(messageOf(foreignError({}))).toBe('it failed');
  for (const none of [
    null,
    undefined,
    'ENOENT',
    5,
    {},
    { code: 'ENOENT' },
    foreignError({}),
    foreignError({ code: 5 }),
  ])
    expect(codeOf(none)).toBeNull();
});

test('an error of PostgreSQL gives the same result in whatever realm it was created', () => {
  expect(codeOfOurs(ofPostgres(foreignError({ code: '23505', severity: 'ERROR' })))).toBe('conflict');
  expect(codeOfOurs(ofPostgres(foreignError({ code: 'ECONNREFUSED' })))).toBe('store_unavailable');
  expect(codeOfOurs(ofPostgres(foreignError({}, 'Connection terminated unexpectedly')))).toBe('store_unavailable');
  expect(codeOfOurs(toOpenError(foreignError({ code: '28P01', severity: 'FATAL' })))).toBe('store_unusable');
  expect(codeOfOurs(toCommitError(foreignError({ code: '40001', severity: 'ERROR' })))).toBe('conflict');
});

test('an error of SQLite gives the same result in whatever realm it was created', () => {
  expect(isBusy(foreignError({ code: 'ERR_SQLITE_ERROR', errcode: 5 }))).toBe(true);
  expect(codeOfOurs(ofSqlite(foreignError({ code: 'ERR_SQLITE_ERROR', errcode: 2067 })))).toBe('conflict');
  expect(codeOfOurs(ofSqlite(foreignError({ code: 'ERR_INVALID_STATE' })))).toBe('shutting_down');
});

test('a promise of another realm is recognized, and an object that is not one is not', () => {
  expect(isPromise(foreign('Promise.resolve(1)'))).toBe(true);
  expect([1, null, undefined, 'then', {}, foreign('({ then: 1 })')].map((value) => isPromise<unknown>(value))).toEqual(
    Array.from({ length: 6 }, () => false),
  );
});

test('an error of another copy of the library is recognized, and one that only looks similar is not', async () => {
  vi.resetModules();
  const copy = await import('../src/foundation/errors.ts');
  expect(copy.PantheonError).not.toBe(PantheonError);
  const error: unknown = new copy.PantheonError('conflict');
  expect(error).toBeInstanceOf(PantheonError);
  expect(new PantheonError('conflict')).toBeInstanceOf(copy.PantheonError);
  const alike = foreignError({ name: 'PantheonError', code: 'conflict' });
  for (const other of [null, 'conflict', new Error('conflict'), alike])
    expect(other instanceof PantheonError).toBe(false);
});

test('no source uses instanceof for a class that exists in every realm', () => {
  const root = new URL('../../../', import.meta.url).pathname;
  const sources = globSync('packages/*/src/**/*.ts', { cwd: root }).filter((path) => !path.endsWith('.test.ts'));
  expect(sources.length).toBeGreaterThan(100);
  const asks =
    /instanceof (?:[A-Z]\w*)?(?:Error|Promise|Uint8Array|ArrayBuffer|Buffer|Date|Map|Set|RegExp|Object|Array)\b/g;
  const found = sources.flatMap((path) =>
    [...readFileSync(root + path, 'utf8').matchAll(asks)].map(([text]) => `${path}: ${text}`),
  );
  // Classes of our own, and of packages that are loaded with us.
  const ours = /PantheonError|OAuthError|CommanderError|ErrorReply|ClientClosedError|ClientOfflineError|ZodObject/;
  expect(found.filter((line) => !ours.test(line))).toEqual([]);
});
