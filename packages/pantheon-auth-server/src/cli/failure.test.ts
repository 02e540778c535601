import { PantheonError, toProblem } from 'pantheon-auth';
import { expect, test } from 'vitest';
import { EXIT } from './exit-codes.ts';
import { ApiRefusal, toFailure } from './failure.ts';

test('an error is one line: the code, the message, the field, the advice', () => {
  const failure = toFailure(new PantheonError('invalid_request', { field: 'ttl', detail: 'Write 5m.' }));
  expect(failure.line).toBe('pantheon-auth: invalid_request: Write 5m (ttl) — Correct the named field.');
  expect(failure.exitCode).toBe(EXIT.usage);
  expect(failure.problem).toMatchObject({ status: 400, code: 'invalid_request', field: 'ttl', detail: 'Write 5m.' });
});

test('a refusal of the service is shown in the same form as an error of the program', () => {
  const mine = toFailure(new PantheonError('not_found'));
  const theirs = toFailure(new ApiRefusal(404, { ...toProblem('not_found') }));
  expect(theirs.line).toBe('pantheon-auth: not_found: The resource does not exist — Check the id and the tenant.');
  expect(mine.line).toBe(theirs.line);
  expect(theirs.exitCode).toBe(EXIT.refused);
});

test('an OAuth error keeps its code and its body', () => {
  const body = { error: 'invalid_scope', error_description: 'The key does not hold this permission.' };
  const failure = toFailure(new ApiRefusal(400, body));
  expect(failure.line).toBe('pantheon-auth: invalid_scope: The key does not hold this permission');
  expect(failure.problem).toBe(body);
});

test('an unknown code is shown as it was received', () => {
  const failure = toFailure(new ApiRefusal(409, { code: 'toString', title: 'Newer than we are.' }));
  expect(failure).toMatchObject({ line: 'pantheon-auth: toString: Newer than we are', exitCode: EXIT.refused });
});

test('a refusal without a message still has a line and an exit code', () => {
  expect(toFailure(new ApiRefusal(418, {}))).toMatchObject({ exitCode: EXIT.usage });
  expect(toFailure(new ApiRefusal(500, { error: '' })).line).toContain('internal_error: The service answered 500');
  expect(toFailure(new ApiRefusal(404, { code: 'other' })).line).toBe('pantheon-auth: other: It was refused');
});

test('of an unexpected error only its kind is shown: its message may contain a secret', () => {
  const withCode = Object.assign(new TypeError('Bearer pan_live_secret is no header'), { code: 'ERR_INVALID_CHAR' });
  for (const error of [new Error('pan_live_secret'), withCode, 'pan_live_secret', { key: 'pan_live_secret' }]) {
    const failure = toFailure(error);
    expect(JSON.stringify(failure)).not.toContain('pan_live_secret');
    expect(failure.exitCode).toBe(EXIT.internal);
  }
  expect(toFailure(withCode).line).toContain('TypeError ERR_INVALID_CHAR');
});

test('text from others cannot control the terminal', () => {
  const failure = toFailure(new ApiRefusal(404, { code: 'not_found', title: 'a\u001b[2Jb\nc\u202ed' }));
  expect(failure.line).toContain('a\\u001b[2Jb\\u000ac\\u202ed');
});
