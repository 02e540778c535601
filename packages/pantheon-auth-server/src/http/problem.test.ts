import type { FastifyError, FastifyRequest } from 'fastify';
import { expect, test } from 'vitest';
import { toPantheonError } from './problem.ts';

test.each([
  ['GET', 'store_unavailable'],
  ['POST', 'outcome_unknown'],
  ['PATCH', 'outcome_unknown'],
])('a %s that took too long: %s, because a change may still be made', (method, code) => {
  const error = Object.assign(new Error('late'), { code: 'FST_ERR_HANDLER_TIMEOUT' }) as FastifyError;
  expect(toPantheonError(error, { method } as FastifyRequest).code).toBe(code);
});
