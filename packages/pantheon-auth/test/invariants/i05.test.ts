import { expect, test } from 'vitest';
import type { PantheonAuth } from '../../src/pantheon-auth.ts';
import { StatementCount } from '../statement-count.ts';
import { openTestEngine, turn } from '../test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

test('I5: what one node allows is accepted by the next use on every node, also if a denial is cached there', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const other = await engine.openAgain();
  const both: readonly [PantheonAuth, PantheonAuth] = [auth, other];
  const answer = async (key: string, request: object = {}): Promise<unknown[]> => {
    await turn();
    clock.advance(1);
    const all: unknown[] = [];
    for (const one of both) {
      const verification = await one.verify({ key, ...request });
      all.push(verification.valid ? 'valid' : verification.denial.code);
    }
    return all;
  };
  const remembered = async (key: string, code: string, request: object = {}): Promise<void> => {
    for (let n = 0; n < 3; n += 1) expect(await answer(key, request)).toEqual([code, code]);
  };

  for (const writer of both) {
    const { key, apiKey } = await writer.keys.create({ ...INPUT, expiresIn: '1h' });
    const { id } = apiKey;
    await remembered(key, 'insufficient_permissions', { permissions: ['docs:write'] });
    await writer.keys.update(id, { permissions: ['docs:*'] });
    expect(await answer(key, { permissions: ['docs:write'] })).toEqual(['valid', 'valid']);
    await writer.keys.suspend(id);
    await engine.propagate();
    await remembered(key, 'suspended');
    await writer.keys.resume(id);
    expect(await answer(key)).toEqual(['valid', 'valid']);
    clock.advance(3_600_000);
    await remembered(key, 'expired');
    await writer.keys.update(id, { expiresAt: null });
    expect(await answer(key)).toEqual(['valid', 'valid']);
    await writer.keys.update(id, { ipAllowlist: ['10.0.0.0/8'] });
    await engine.propagate();
    await remembered(key, 'ip_not_allowed', { ip: '11.0.0.1' });
    await writer.keys.update(id, { ipAllowlist: [] });
    expect(await answer(key, { ip: '11.0.0.1' })).toEqual(['valid', 'valid']);
    await writer.tenants.suspend('default');
    await engine.propagate();
    await remembered(key, 'suspended');
    await writer.tenants.resume('default');
    expect(await answer(key)).toEqual(['valid', 'valid']);
    const { key: next } = await writer.rotation.rotate(id);
    expect(await answer(next)).toEqual(['valid', 'valid']);
  }
});

// The string of a key is known before it is made only where its keeper writes it down first: the root key.
test('I5: an id that is cached as unknown is found as soon as its key is created', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const other = await engine.openAgain();
  const root = auth.generator.generateKey().key;
  for (const one of [auth, other])
    for (let n = 0; n < 3; n += 1)
      expect(await one.verify({ key: root, tenant: 'system' })).toMatchObject({ denial: { code: 'unknown' } });
  await auth.bootstrap({ read: () => root, write: () => {} });
  // What the other node confirmed while it was made does not count as later.
  clock.advance(1);
  await turn();
  for (const one of [auth, other])
    expect(await one.verify({ key: root, tenant: 'system' })).toMatchObject({ valid: true });
});

test('I5: many denials at once share one read of the head at a time, and no other read', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key } = await auth.keys.create(INPUT);
  for (let n = 0; n < 2; n += 1) {
    await auth.verify({ key });
    clock.advance(5);
    // What is under way of the log is applied, and has made it forget what it must.
    await auth.ping();
    await turn();
  }
  using count = new StatementCount();
  await Promise.all(Array.from({ length: 1_000 }, () => auth.verify({ key, permissions: ['docs:write'] })));
  expect([count.reads, count.writes]).toEqual([0, 0]);
  expect(count.heads).toBeLessThanOrEqual(2);
});
