import { describe, expect, test } from 'vitest';
import { PantheonError } from '../../foundation/errors.ts';
import { breaksConnection, toCommitError, toOpenError, toPantheonError } from './postgres-errors.ts';

/** As the driver throws what the server answers. `detail` holds values of rows. */
function answered(code: string, message = 'it failed'): Error {
  return Object.assign(new Error(message), { code, severity: 'ERROR', detail: 'Key (id)=(what-a-row-holds) exists.' });
}

const codeOf = (error: unknown): string => (error instanceof PantheonError ? error.code : 'not ours');

test.each([
  ['23505', 'conflict'],
  ['23503', 'conflict'],
  ['40001', 'conflict'],
  ['40P01', 'conflict'],
  ['25006', 'store_read_only'],
  ['53100', 'store_full'],
  ['53300', 'store_unavailable'],
  ['55P03', 'store_unavailable'],
  ['57014', 'store_unavailable'],
  ['57P01', 'store_unavailable'],
  ['08006', 'store_unavailable'],
  ['58030', 'store_unavailable'],
  ['XX001', 'store_unavailable'],
  ['0A000', 'store_unavailable'],
  ['26000', 'store_unavailable'],
  ['22021', 'invalid_request'],
  ['25P03', 'store_unavailable'],
  ['42601', 'not ours'],
  ['22P02', 'not ours'],
])('SQLSTATE %s means %s', (state, code) => {
  expect(codeOf(toPantheonError(answered(state)))).toBe(code);
});

test('an error of the connection is an unavailable store', () => {
  const refused = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
  const ways = [
    refused,
    new AggregateError([refused, refused], ''),
    new Error('Connection terminated unexpectedly'),
    new Error('timeout exceeded when trying to connect'),
    new Error('self-signed certificate'),
  ];
  expect(ways.map((error) => codeOf(toPantheonError(error)))).toEqual(ways.map(() => 'store_unavailable'));
});

test('an internal error is passed on unchanged', () => {
  const mistake = new TypeError('x is not a function');
  expect(toPantheonError(mistake)).toBe(mistake);
  expect(toPantheonError('text')).toBe('text');
  const ours = new PantheonError('conflict');
  expect(toPantheonError(ours)).toBe(ours);
});

test('the content of a row is not in the error', () => {
  const error = toPantheonError(answered('23505', 'duplicate key value violates unique constraint "api_keys_pkey"'));
  expect(JSON.stringify([error, (error as Error).message, (error as Error).cause ?? null])).not.toContain('what-a-row');
});

describe('a COMMIT that failed', () => {
  test('is certain when the server says that it was a conflict', () => {
    expect(codeOf(toCommitError(answered('40001')))).toBe('conflict');
    expect(codeOf(toCommitError(answered('23503')))).toBe('conflict');
  });

  test('is unknown in every other case', () => {
    const lost = [answered('57P01'), answered('53100'), new Error('Connection terminated unexpectedly'), 'what'];
    expect(lost.map((error) => codeOf(toCommitError(error)))).toEqual(lost.map(() => 'outcome_unknown'));
  });
});

test('at the start, an error that an operator must correct is reported as such', () => {
  for (const state of ['28P01', '3D000', '42501'])
    expect(toOpenError(answered(state))).toMatchObject({ code: 'store_unusable', field: 'database.url' });
  expect(codeOf(toOpenError(answered('57P03')))).toBe('store_unavailable');
});

test('a connection on which anything else could answer is not used again', () => {
  expect(breaksConnection(new Error('Connection terminated unexpectedly'))).toBe(true);
  expect(['57P01', '0A000', '26000'].map((state) => breaksConnection(answered(state)))).toEqual([true, true, true]);
  expect(['23505', '40001', '42601'].map((state) => breaksConnection(answered(state)))).toEqual([false, false, false]);
});
