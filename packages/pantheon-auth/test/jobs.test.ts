/** Work in the background of running instances: who does it, and what it did. */
import { expect, test, vi } from 'vitest';
import { openEngine } from '../src/engine/open-engine.ts';
import { DAY_MS } from '../src/foundation/clock.ts';
import type { ConsumedEvent } from '../src/log-consumers/log-consumer.ts';
import { pantheonAuthOf } from '../src/pantheon-auth.ts';
import { jobOf, untilRuns } from './job-runs.ts';
import { openTestEngine } from './test-engine.ts';

const SETTLED = { timeout: 20_000, interval: 20 };

// Hours pass by in steps, with work of the store in each: much to do for a busy machine.
vi.setConfig({ testTimeout: 120_000 });

test('three instances on one store share the background jobs', async () => {
  await using engine = await openTestEngine();
  const nodes = [engine.auth, await engine.openAgain(), await engine.openAgain()];
  const start = engine.clock.now();
  await untilRuns(engine.clock, nodes, 'usage-retention', 5);
  const did = nodes.map((one) => jobOf(one, 'usage-retention'));
  const runs = did.reduce((sum, { successes }) => sum + successes, 0);
  // Once a minute, less a tenth at most; three times that if each ran it for itself. Time is moved faster here than the
  // store answers, so that a lease may run out and a run be repeated: exactly once is `jobs/job-runner.test.ts`.
  expect(runs).toBeLessThan((2 * (engine.clock.now() - start)) / 54_000);
  const [lease] = await engine.sql(`select fence from job_leases where name = 'usage-retention'`);
  expect(Number(lease?.['fence'])).toBeGreaterThanOrEqual(runs);
  expect(engine.auth.jobs().map(({ name }) => name)).toEqual([
    'usage-retention',
    'answer-retention',
    'token-revocation-retention',
    'signing-key-rotation',
    'key-schedule',
  ]);
});

test('jobs delete old counts, idempotency records and revocations of expired tokens', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'k' }, { idempotencyKey: 'once' });
  const exchanged = await auth.tokens.exchange({ key });
  if (!exchanged.issued) throw new Error('There is no token.');
  await auth.tokens.revoke({ ...exchanged.token, tenantId: 'default' });
  await auth.verify({ key });
  const rows = async (table: string): Promise<number> => (await engine.sql(`select * from ${table}`)).length;
  await vi.waitFor(async () => expect(await rows('usage_counts')).toBeGreaterThan(0), SETTLED);
  expect([await rows('idempotency'), await rows('token_revocations')]).toEqual([1, 1]);

  // Nothing of it while each may still be asked for.
  await untilRuns(clock, [auth], 'token-revocation-retention', 2);
  expect([await rows('idempotency'), await rows('token_revocations')]).toEqual([1, 1]);
  clock.advance(2 * DAY_MS);
  await untilRuns(clock, [auth], 'answer-retention', 2);
  await untilRuns(clock, [auth], 'token-revocation-retention', 2);
  expect([await rows('idempotency'), await rows('token_revocations')]).toEqual([0, 0]);
  const { items } = await auth.events.list('system', { type: 'store.expired_revocations_deleted' });
  expect(items).toMatchObject([{ actor: { keyId: null, job: 'token-revocation-retention' }, after: { count: 1 } }]);
  clock.advance(400 * DAY_MS);
  await untilRuns(clock, [auth], 'usage-retention', 2);
  expect(await rows('usage_counts')).toBe(0);
  expect((await auth.keys.get(apiKey.id)).id).toBe(apiKey.id);
});

test('for a day after a start with a clock that was ahead, nothing is deleted for its age', async () => {
  await using engine = await openTestEngine();
  await engine.auth.keys.create({ userId: 'u', name: 'k' }, { idempotencyKey: 'once' });
  await engine.auth.close();
  engine.clock.advance(10 * DAY_MS);
  const later = await engine.openAgain();
  await untilRuns(engine.clock, [later], 'answer-retention', 2);
  expect(await engine.sql('select * from idempotency')).toHaveLength(1);
  engine.clock.advance(DAY_MS);
  await untilRuns(engine.clock, [later], 'answer-retention', 2);
  expect(await engine.sql('select * from idempotency')).toHaveLength(0);
});

test('a log consumer is passed every event of all tenants in full, also after it was stopped', async () => {
  await using engine = await openTestEngine();
  const { clock } = engine;
  const seen: ConsumedEvent[] = [];
  const consume = async (events: readonly ConsumedEvent[]): Promise<void> => void seen.push(...events);
  const open = async () => {
    const opened = await openEngine({ ...engine.options, clock });
    opened.consumers.register({ name: 'watcher', startsAt: 'head', consume });
    return pantheonAuthOf(opened);
  };
  const auth = await open();
  await untilRuns(clock, [auth], 'watcher', 1);
  const { apiKey } = await auth.keys.create({ userId: 'user-1', name: 'k' });
  await untilSeen(1);
  await auth.close();
  await engine.auth.tenants.create({ id: 'acme' });
  await engine.auth.tenant('acme').keys.create({ userId: 'user-2', name: 'k' });
  const later = await open();
  await untilSeen(3);
  await later.close();
  expect(seen).toMatchObject([
    { type: 'key.created', tenantId: 'default', subject: { id: apiKey.id }, after: { userId: 'user-1' } },
    { type: 'tenant.created', subject: { id: 'acme' } },
    { type: 'key.created', tenantId: 'acme', after: { userId: 'user-2' } },
  ]);

  async function untilSeen(many: number): Promise<void> {
    await vi.waitFor(
      () => {
        if (seen.length < many) clock.advance(500);
        expect(seen).toHaveLength(many);
      },
      { timeout: 30_000, interval: 10 },
    );
  }
});
