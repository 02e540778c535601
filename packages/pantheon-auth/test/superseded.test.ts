/** A version that was superseded: what it makes ends with it, and it uses up nothing of what its holder needs. */
import { expect, test } from 'vitest';
import { HOUR_MS } from '../src/foundation/clock.ts';
import { callerFor } from './callers.ts';
import { refusalOf } from './refusal-of.ts';
import { openTestEngine } from './test-engine.ts';

const OWNER = {
  userId: 'owner',
  name: 'owner',
  permissions: [
    'docs:read',
    'pantheon:keys:create',
    'pantheon:keys:rotate',
    'pantheon:keys:revoke',
    'pantheon:tokens:issue',
  ],
  grantable: ['docs:*'],
  rotation: { overlap: '1h' },
} as const;
const CHILD = {
  userId: 'owner',
  name: 'child',
  permissions: ['docs:read', 'pantheon:keys:rotate'],
  grantable: ['docs:*'],
};

test('it creates no key that outlives it, and so none that changes its own key for it', async () => {
  await using engine = await openTestEngine();
  const { keys, rotation } = engine.auth;
  const owner = await keys.create({ ...OWNER, permissions: [...OWNER.permissions] });
  await rotation.rotate(owner.apiKey.id, { overlap: '1h' });
  const by = await callerFor(engine.auth, owner.key);
  expect(await refusalOf(keys.create(CHILD, { by }))).toMatchObject({ code: 'not_grantable', field: 'expiresAt' });
  const child = await keys.create({ ...CHILD, expiresIn: '30m' }, { by });
  const byChild = await callerFor(engine.auth, child.key);
  const takeover = rotation.rotate(owner.apiKey.id, { overlap: 0, expectedVersion: 2 }, { by: byChild });
  expect(await refusalOf(takeover)).toMatchObject({ code: 'not_grantable' });
  engine.clock.advance(HOUR_MS);
  expect(await engine.auth.verify({ key: child.key })).toMatchObject({ valid: false, denial: { code: 'expired' } });
});

test('it gets no token of its key', async () => {
  await using engine = await openTestEngine();
  const { keys, rotation, tokens } = engine.auth;
  const owner = await keys.create({ ...OWNER, permissions: [...OWNER.permissions] });
  await rotation.rotate(owner.apiKey.id, { overlap: '1h' });
  const by = await callerFor(engine.auth, owner.key);
  const target = { tenantId: 'default', keyId: owner.apiKey.id };
  expect(await refusalOf(tokens.issue(target, {}, { by }))).toMatchObject({ code: 'version_conflict' });
});

test('its attempts to rotate do not use up the budget of the current one', async () => {
  await using engine = await openTestEngine({ selfRotationsPerHour: 3 });
  const { keys, rotation } = engine.auth;
  const owner = await keys.create({ ...OWNER, permissions: [...OWNER.permissions] });
  const by = await callerFor(engine.auth, owner.key);
  const second = await rotation.rotateSelf(by);
  for (const code of ['version_conflict', 'version_conflict', 'version_conflict', 'rate_limited'])
    expect(await refusalOf(rotation.rotateSelf(by))).toMatchObject({ code });
  const current = await callerFor(engine.auth, second.key);
  expect(await rotation.rotateSelf(current, { expectedVersion: 2 })).toMatchObject({ apiKey: { version: 3 } });
});
