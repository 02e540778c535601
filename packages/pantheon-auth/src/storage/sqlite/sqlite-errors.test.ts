import { expect, test } from 'vitest';
import { PantheonError } from '../../foundation/errors.ts';
import { isBusy, toCommitError, toPantheonError } from './sqlite-errors.ts';

function driverError(errcode: number): Error {
  return Object.assign(new Error('text of the driver'), { code: 'ERR_SQLITE_ERROR', errcode });
}

test.each([
  ['SQLITE_BUSY', 5, 'store_unavailable'],
  ['SQLITE_BUSY_SNAPSHOT', 517, 'store_unavailable'],
  ['SQLITE_LOCKED', 6, 'store_unavailable'],
  ['SQLITE_READONLY', 8, 'store_read_only'],
  ['SQLITE_READONLY_DBMOVED', 1032, 'store_unusable'],
  ['SQLITE_IOERR_WRITE', 778, 'store_unavailable'],
  ['SQLITE_CORRUPT', 11, 'store_unusable'],
  ['SQLITE_CORRUPT_INDEX', 779, 'store_unusable'],
  ['SQLITE_IOERR_CORRUPTFS', 8458, 'store_unusable'],
  ['SQLITE_FULL', 13, 'store_full'],
  ['SQLITE_IOERR_SHMSIZE', 4874, 'store_full'],
  ['SQLITE_CANTOPEN', 14, 'store_unavailable'],
  ['SQLITE_NOTADB', 26, 'store_unusable'],
  ['SQLITE_CONSTRAINT_UNIQUE', 2067, 'conflict'],
  ['SQLITE_CONSTRAINT_PRIMARYKEY', 1555, 'conflict'],
  ['SQLITE_CONSTRAINT_FOREIGNKEY', 787, 'conflict'],
] as const)('%s gives the caller %s as %s', (_name, errcode, code) => {
  const cause = driverError(errcode);
  expect(toPantheonError(cause)).toMatchObject({ name: 'PantheonError', code, cause });
});

test.each([
  ['a mistake in a statement', driverError(1)],
  ['a value that no column takes', driverError(3091)],
  ['a trigger that refuses', driverError(1811)],
  ['an error of something else', new TypeError('x')],
  ['what is no error at all', 'x'],
])('%s is not reported as an error of the store', (_name, error) => {
  expect(toPantheonError(error)).toBe(error);
  expect(toCommitError(error)).toBe(error);
});

test('a closed connection is reported as shutting_down', () => {
  const closed = Object.assign(new Error('database is not open'), { code: 'ERR_INVALID_STATE' });
  expect(toPantheonError(closed)).toMatchObject({ code: 'shutting_down' });
});

test('only a failed write to the disk leaves the outcome of a COMMIT unknown', () => {
  expect(toCommitError(driverError(1034))).toMatchObject({ code: 'outcome_unknown' }); // SQLITE_IOERR_FSYNC
  expect(toCommitError(driverError(13))).toMatchObject({ code: 'store_full' });
  expect(toCommitError(driverError(5))).toMatchObject({ code: 'store_unavailable' });
});

test('only a lock is retried', () => {
  expect([5, 6, 261, 517].map((code) => isBusy(driverError(code)))).toEqual([true, true, true, true]);
  expect([driverError(13), new PantheonError('conflict'), null].map(isBusy)).toEqual([false, false, false]);
});
