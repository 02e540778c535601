import { expect, test } from 'vitest';
import { formatKey, generateKey, parseKey } from '../../src/api-keys/key-generator.ts';
import { openTestEngine, type TestEngine } from '../test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

function wrongSecret(key: string): string {
  const [parsed, other] = [parseKey(key), parseKey(generateKey({ keyPrefix: 'pan', environment: 'live' }).key)];
  if (parsed === null || other === null) throw new Error('not a key');
  return formatKey({ ...parsed, secret: other.secret });
}

async function answerTo(
  engine: TestEngine,
  credential: string,
): Promise<{ told: string; cause: string; status: number }> {
  const answer = await engine.auth.authenticate(
    {
      url: '/',
      header: (name) => (name === 'authorization' ? [`Bearer ${credential}`] : []),
      address: null,
      requestId: 'r',
    },
    { permissions: ['docs:write'] },
  );
  if (answer.authenticated) throw new Error('accepted');
  const { refusal } = answer;
  return {
    told: JSON.stringify([refusal.status, refusal.code, refusal.headers, refusal.body, refusal.keyId]),
    cause: refusal.cause,
    status: refusal.status,
  };
}

test('I12: a caller without a valid secret gets one answer, whatever it sends and whatever state the key is in', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const states = {
    active: await auth.keys.create(INPUT),
    revoked: await auth.keys.create(INPUT),
    suspended: await auth.keys.create(INPUT),
    expired: await auth.keys.create({ ...INPUT, expiresIn: '1m' }),
    elsewhere: await auth.keys.create({ ...INPUT, ipAllowlist: ['10.0.0.0/8'] }),
    test: await auth.keys.create({ ...INPUT, environment: 'test' }),
  };
  const damaged = await auth.keys.create(INPUT);
  await engine.sql(`update api_keys set name = 'changed' where id = ?`, damaged.apiKey.id);
  await auth.keys.revoke(states.revoked.apiKey.id);
  await auth.keys.suspend(states.suspended.apiKey.id);
  const exchange = await auth.tokens.exchange({ key: states.active.key });
  const [header = '', payload = ''] = (exchange.issued ? exchange.token.token : '').split('.');
  engine.clock.advance(60_000);

  // Its id was invented: the tag is wrong.
  const expected = await answerTo(engine, generateKey({ keyPrefix: 'pan', environment: 'live' }).key);
  expect([expected.status, expected.cause]).toEqual([401, 'unknown']);
  expect(expected.told).toContain('invalid_key');
  const nothing = [
    ['malformed', 'x'],
    ['malformed', states.active.key.slice(0, -1)],
    ['malformed', `${states.active.key.slice(0, -1)}${states.active.key.endsWith('0') ? '1' : '0'}`],
    ['malformed', 'a.b.c'],
    ['unknown', auth.generator.generateKey().key],
    ['unknown', wrongSecret(damaged.key)],
    ['unknown', `${header}.${payload}.${Buffer.alloc(64, 1).toString('base64url')}`],
    ['malformed', `${header}.${payload}.`],
    ...Object.values(states).map(({ key }) => ['unknown', wrongSecret(key)]),
  ] as const;
  // Cold and warm.
  for (let n = 0; n < 2; n += 1) {
    for (const [cause, credential] of nothing) {
      const answer = await answerTo(engine, String(credential));
      expect(answer.told).toBe(expected.told);
      expect(answer.cause).toBe(cause);
    }
  }
});

test('I12: a caller with a valid secret gets the true reason', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const told = async (input: object, change: (id: string) => Promise<unknown>): Promise<string> => {
    const { key, apiKey } = await auth.keys.create({ ...INPUT, ...input });
    await change(apiKey.id);
    return (await answerTo(engine, key)).cause;
  };
  const nothing = async (): Promise<void> => {};
  expect(await told({}, nothing)).toBe('insufficient_permissions');
  expect(await told({}, (id) => auth.keys.revoke(id))).toBe('revoked');
  expect(await told({}, (id) => auth.keys.suspend(id))).toBe('suspended');
  expect(await told({ environment: 'test' }, nothing)).toBe('environment_mismatch');
  expect(await told({ ipAllowlist: ['10.0.0.0/8'] }, nothing)).toBe('ip_not_allowed');
  expect(await told({ notBefore: '2040-01-01T00:00:00Z' }, nothing)).toBe('not_yet_active');
  expect(await told({ expiresIn: '1m' }, async () => engine.clock.advance(60_000))).toBe('expired');
  expect(await told({}, (id) => auth.rotation.rotate(id, { overlap: 0 }))).toBe('version_retired');
});
