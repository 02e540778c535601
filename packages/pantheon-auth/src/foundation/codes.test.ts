import { describe, expect, test } from 'vitest';
import { CODES, DENIALS, ERRORS, STARTUP } from './codes.ts';

const entries = Object.entries(CODES);

test.each(entries)('%s is snake_case, and says what it means and what to do', (code, entry) => {
  expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
  for (const sentence of [entry.title, entry.advice]) expect(sentence).toMatch(/^[A-Z].{5,}\.$/);
});

test('no code is in two tables: one would hide the other', () => {
  const count = [DENIALS, ERRORS, STARTUP].map((table) => Object.keys(table).length).reduce((a, b) => a + b);
  expect(entries).toHaveLength(count);
});

describe('a denial has the status that tells the caller what to do', () => {
  test.each([
    [401, ['malformed', 'unknown', 'revoked', 'expired', 'version_retired', 'wrong_audience']],
    [403, ['suspended', 'not_yet_active', 'environment_mismatch', 'ip_not_allowed', 'insufficient_permissions']],
    [429, ['rate_limited', 'quota_exceeded']],
  ])('%i', (status, codes) => {
    const found = Object.entries(DENIALS).filter(([, entry]) => entry.status === status);
    expect(found.map(([code]) => code).sort()).toEqual(codes.sort());
  });
});

test('an error never has a success status, and a denial never 503', () => {
  for (const { kind, status } of Object.values(ERRORS)) {
    expect(kind).toBe('error');
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(600);
  }
  for (const { kind, status } of Object.values(DENIALS)) {
    expect(kind).toBe('denial');
    expect(status).not.toBe(503);
  }
});

test('a reason for a refused start has no HTTP status', () => {
  for (const entry of Object.values(STARTUP)) expect(entry).toMatchObject({ kind: 'startup', status: null });
});
