import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { PantheonAuth } from '../../src/pantheon-auth.ts';
import { STALENESS_MAX_MS_DEFAULT } from '../../src/verification/key-lookup.ts';
import { STORE } from '../store.ts';
import { clockFrom, openTestEngine, turn } from '../test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

/** Waits for this many steps of others: how two calls come to lie against each other. */
async function steps(count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await null;
}

async function isAccepted(auth: PantheonAuth, key: string): Promise<boolean> {
  return (await auth.verify({ key, permissions: ['docs:read'] })).valid;
}

/** A message to a server takes a hundred times as long as one to a file. */
const INTERLEAVINGS = STORE === 'postgres' ? 3_000 : 10_000;

test(`I4: ${INTERLEAVINGS} interleavings of uses and restrictions on two instances: no use is accepted after the restriction was answered`, async () => {
  await using engine = await openTestEngine();
  const here = engine.auth;
  const there = await engine.openAgain();
  const { key, apiKey } = await here.keys.create(INPUT);
  const { id } = apiKey;
  // A suspension goes the way of a revocation, and can be taken back for the next round.
  const refusals = [
    { refuse: (auth: PantheonAuth) => auth.keys.suspend(id), allow: (auth: PantheonAuth) => auth.keys.resume(id) },
    {
      refuse: (auth: PantheonAuth) => auth.keys.update(id, { permissions: [] }),
      allow: (auth: PantheonAuth) => auth.keys.update(id, { permissions: ['docs:read'] }),
    },
    {
      refuse: (auth: PantheonAuth) => auth.tenants.suspend('default'),
      allow: (auth: PantheonAuth) => auth.tenants.resume('default'),
    },
  ];
  let state = 42;
  const random = (below: number): number => {
    // A small generator of its own, so that a failing run can be repeated.
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % below;
  };
  let interleavings = 0;
  let acceptedBefore = 0;
  for (let round = 0; interleavings < INTERLEAVINGS; round += 1) {
    const { refuse, allow } = refusals[round % refusals.length] ??
      refusals[0] ?? { refuse: async () => {}, allow: async () => {} };
    const [writer, reader] = round % 2 === 0 ? [here, there] : [there, here];
    // Both know the key, or one has to read it, or both have.
    if (random(3) > 0) await isAccepted(here, key);
    if (random(3) > 0) await isAccepted(there, key);
    const inFlight: Promise<boolean>[] = [];
    const begin = async (count: number): Promise<void> => {
      for (let n = 0; n < count; n += 1) {
        inFlight.push(isAccepted(random(2) === 0 ? here : there, key));
        await steps(random(12));
      }
    };
    const [, early] = await Promise.all([refuse(writer), begin(20)]).then(
      async (done) => [done, await Promise.all(inFlight)] as const,
    );
    interleavings += early.length;
    acceptedBefore += early.filter(Boolean).length;
    // The refusal has answered. Here at once, elsewhere within the bound.
    expect(await isAccepted(writer, key), `round ${round}, where it was refused`).toBe(false);
    await engine.propagate();
    expect(await isAccepted(reader, key), `round ${round}, elsewhere`).toBe(false);
    // And no late read brought the old state back.
    await turn();
    for (const auth of [here, there]) expect(await isAccepted(auth, key), `round ${round}, later`).toBe(false);
    await allow(writer);
    await turn();
    engine.clock.advance(1);
    expect(await isAccepted(reader, key), `round ${round}, allowed again`).toBe(true);
  }
  // It was in fact used while it was refused.
  expect(acceptedBefore).toBeGreaterThan(100);
}, 120_000);

test('I4: a restriction in one process denies each use in another once the bound has passed; lifting it has effect at once', async () => {
  await using engine = await openTestEngine();
  await engine.auth.close();
  const here = await engine.openAgain({ clock: clockFrom() });
  const child = engine.startProcess(
    `
    for (let line = await next(); line; line = await next()) {
      const { key, permissions } = JSON.parse(line);
      const answer = await auth.verify({ key, permissions });
      console.log(answer.valid ? 'valid' : answer.denial.code);
    }
    await auth.close();
    process.exit(0);
  `,
  );
  /** Processes on one file agree at once. */
  const [boundMs, rounds] = STORE === 'postgres' ? [STALENESS_MAX_MS_DEFAULT + 1, 1] : [0, 20];
  const closed = once(child, 'close');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const there = async (key: string, permissions: string[] = []): Promise<string> => {
    child.stdin.write(`${JSON.stringify({ key, permissions })}\n`);
    return String((await answers.next()).value);
  };
  try {
    for (let n = 0; n < rounds; n += 1) {
      const { key, apiKey } = await here.keys.create(INPUT);
      // I5, both ways: what was just made is known there.
      expect(await there(key)).toBe('valid');
      await here.keys.update(apiKey.id, { permissions: [] });
      await pause(boundMs);
      expect(await there(key, ['docs:read'])).toBe('insufficient_permissions');
      await here.keys.update(apiKey.id, { permissions: ['docs:*'] });
      expect(await there(key, ['docs:read'])).toBe('valid');
      await here.keys.suspend(apiKey.id);
      await pause(boundMs);
      expect(await there(key)).toBe('suspended');
      await here.keys.resume(apiKey.id);
      expect(await there(key)).toBe('valid');
      const { key: next } = await here.rotation.rotate(apiKey.id, { overlap: 0 });
      await pause(boundMs);
      expect(await there(key)).toBe('version_retired');
      expect(await there(next)).toBe('valid');
      await here.keys.revoke(apiKey.id);
      await pause(boundMs);
      expect(await there(next)).toBe('revoked');
    }
  } finally {
    child.stdin.end();
    await closed;
    await here.close();
  }
}, 60_000);

test('I4: if the bound on staleness cannot be kept the answer is 503, never a stale acceptance', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key } = await auth.keys.create(INPUT);
  expect(await isAccepted(auth, key)).toBe(true);
  await auth.close();
  // In the same moment its facts are still young.
  clock.advance(1_001);
  const answer = await auth.authenticate({
    url: '/',
    header: (name) => (name === 'authorization' ? [`Bearer ${key}`] : []),
    address: null,
  });
  expect(answer).toMatchObject({ authenticated: false, refusal: { status: 503, headers: { 'retry-after': '1' } } });
});
