import { expect, test } from 'vitest';
import { CODES, type Code } from './codes.ts';
import { assertNever, invariant, PantheonError } from './errors.ts';

test.each(Object.keys(CODES) as Code[])('%s says what it means and what to do, without a detail', (code) => {
  const error = new PantheonError(code);
  expect(error.message).toBe(`${code}: ${CODES[code].title} ${CODES[code].advice}`);
  expect(error).toMatchObject({ name: 'PantheonError', code, detail: null, field: null, retryAfterSeconds: null });
  expect('cause' in error).toBe(false);
});

test('details name the field, the wait and the cause', () => {
  const cause = new Error('disk');
  const details = { field: 'name', detail: 'Too long.', retryAfterSeconds: 3, cause };
  const error = new PantheonError('invalid_request', details);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject(details);
  expect(error.message).toBe('invalid_request (name): Too long.');
});

test('a failed invariant names itself', () => {
  expect(() => invariant(1, 'one is true')).not.toThrow();
  expect(() => invariant(0, 'the sky is up')).toThrow('Invariant broken: the sky is up');
});

test('an unhandled case is named in the error', () => {
  expect(() => assertNever('new' as never)).toThrow('Unhandled case: new');
});
