import { expect, test } from 'vitest';
import { callerWith } from '../../test/callers.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import { HOUR_MS } from '../foundation/clock.ts';
import type { PantheonError } from '../foundation/errors.ts';

async function holderOf(engine: TestEngine) {
  const rotation = { overlap: 0 };
  const { apiKey } = await engine.auth.keys.create({ userId: 'u', name: 'n', permissions: ['docs:read'], rotation });
  const by = (version: number) => callerWith({ apiKey, permissions: [], grantable: [], version });
  return { id: apiKey.id, by };
}

test('a key may rotate itself a limited number of times per hour, and is then told how long to wait', async () => {
  await using engine = await openTestEngine({ selfRotationsPerHour: 3 });
  const { rotation } = engine.auth;
  const { by } = await holderOf(engine);
  for (const version of [1, 2, 3]) await rotation.rotateSelf(by(version));
  const refused = await refusalOf(rotation.rotateSelf(by(4)));
  const { code, retryAfterSeconds } = refused as PantheonError;
  expect(code).toBe('rate_limited');
  expect(retryAfterSeconds).toBeGreaterThanOrEqual(HOUR_MS / 1_000);
  // Its budget is its own, and an administrator does not need it.
  expect(await rotation.rotateSelf((await holderOf(engine)).by(1))).toMatchObject({ apiKey: { version: 2 } });
  const { keyId } = by(4).authority as { readonly keyId: string };
  expect(await rotation.rotate(keyId)).toMatchObject({ apiKey: { version: 5 } });
  engine.clock.advance(Number(retryAfterSeconds) * 1_000);
  expect(await rotation.rotateSelf(by(5))).toMatchObject({ apiKey: { version: 6 } });
});

test('failed attempts count too: they cost the store as much', async () => {
  await using engine = await openTestEngine({ selfRotationsPerHour: 2 });
  const { rotation } = engine.auth;
  const { by } = await holderOf(engine);
  await rotation.rotateSelf(by(1));
  for (const code of ['version_conflict', 'rate_limited'])
    expect(await refusalOf(rotation.rotateSelf(by(2), { expectedVersion: 1 }))).toMatchObject({ code });
});

test('a key has one rotation by itself in progress at a time, whatever its outcome', async () => {
  await using engine = await openTestEngine();
  const { rotation } = engine.auth;
  const { by } = await holderOf(engine);
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => rotation.rotateSelf(by(1))));
  const codes = outcomes.map((one) => (one.status === 'fulfilled' ? 'done' : one.reason.code));
  expect(codes).toEqual(['done', ...Array.from({ length: 9 }, () => 'rate_limited')]);
  await refusalOf(rotation.rotateSelf(by(2), { expectedVersion: 1 }));
  expect(await rotation.rotateSelf(by(2))).toMatchObject({ apiKey: { version: 3 } });
});

test.each([0, 1.5, Number.NaN, Number.POSITIVE_INFINITY])(
  '%s rotations an hour is refused as a setting',
  async (selfRotationsPerHour) => {
    expect(await refusalOf(openTestEngine({ selfRotationsPerHour }))).toMatchObject({
      code: 'invalid_setting',
      field: 'selfRotationsPerHour',
    });
  },
);
