import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type EventAbout, eventAbout, type RecordedEvent, type SubjectType } from '../../src/domain/event.ts';
import { evolve, type KeyRecord } from '../../src/domain/key.ts';
import { evolveTenant, type TenantRecord } from '../../src/domain/tenant.ts';
import type { TenantEvent } from '../../src/events/audit-log.ts';
import { PantheonError } from '../../src/foundation/errors.ts';
import type { PantheonAuth } from '../../src/pantheon-auth.ts';
import { STORE } from '../store.ts';
import { openTestEngine, type TestEngine } from '../test-engine.ts';

const command = fc.oneof(
  fc.record({ kind: fc.constant('create'), name: fc.constantFrom('a', 'b'), again: fc.boolean() }),
  fc.record({
    kind: fc.constantFrom('suspend', 'resume', 'rotate', 'rotate now', 'retire', 'revoke', 'revoke tokens'),
    at: fc.nat(3),
  }),
  fc.record({
    kind: fc.constant('update'),
    at: fc.nat(3),
    change: fc.constantFrom(
      { name: 'new' },
      { description: null },
      { expiresIn: '1h' },
      { permissions: ['docs:*'] },
      { rateLimits: [{ name: 'minute', limit: 5, window: '1m' }] },
      { quota: { limit: 5, period: 'day' as const } },
      { jwt: { algorithm: 'HS256' as const, audience: ['a'], customClaims: { b: [1] } } },
      { jwt: null },
      { metadata: { deep: { a: [null] } } },
      { ipAllowlist: ['10.0.0.0/8', '::1'] },
      { rotation: { every: '30d', overlap: '1h' } },
    ),
  }),
  fc.record({ kind: fc.constantFrom('suspend tenant', 'resume tenant', 'pass time', 'restart') }),
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

/** Carries one out; what may not be is refused, and that is fine here. */
async function execute(auth: PantheonAuth, engine: TestEngine, ids: string[], step: Command): Promise<void> {
  const id = 'at' in step ? (ids[step.at] ?? 'NeverMadeNeverMa') : '';
  switch (step.kind) {
    case 'create': {
      const options = 'again' in step && step.again ? { idempotencyKey: 'again' } : {};
      const { apiKey } = await auth.keys.create({ userId: 'u', name: 'n', permissions: ['docs:read'] }, options);
      if (!ids.includes(apiKey.id)) ids.push(apiKey.id);
      return;
    }
    case 'update':
      return void (await auth.keys.update(id, 'change' in step ? step.change : {}));
    case 'suspend':
      return void (await auth.keys.suspend(id, { reason: 'r' }));
    case 'resume':
      return void (await auth.keys.resume(id));
    case 'rotate':
      return void (await auth.rotation.rotate(id, { overlap: '1h' }));
    case 'rotate now': {
      const { version } = await auth.keys.get(id);
      return void (await auth.rotation.rotate(id, { overlap: 0, expectedVersion: version }));
    }
    case 'retire':
      return void (await auth.rotation.retire(id, 1));
    case 'revoke':
      return void (await auth.keys.revoke(id, { cascade: true }));
    case 'revoke tokens':
      return await auth.tokens.revokeAllOf({ tenantId: 'default', keyId: id });
    case 'suspend tenant':
      return void (await auth.tenants.suspend('default'));
    case 'resume tenant':
      return void (await auth.tenants.resume('default'));
    case 'pass time':
      return engine.clock.advance(1_800_000);
  }
}

async function logOf(auth: PantheonAuth): Promise<TenantEvent[]> {
  const events: TenantEvent[] = [];
  let cursor: string | null = null;
  do {
    const page = await auth.events.list('default', {
      order: 'oldest_first',
      limit: 200,
      ...(cursor !== null && { cursor }),
    });
    events.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return events;
}

const fact = <S extends SubjectType>(subject: S, event: TenantEvent): EventAbout<S> =>
  eventAbout(subject, { ...event, at: event.at.getTime() } as RecordedEvent);

test('I3: after any sequence of calls, replaying the log gives every record as it is stored', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 25 }), async (commands) => {
      await using engine = await openTestEngine();
      let auth = engine.auth;
      const ids: string[] = [];
      for (const step of commands) {
        engine.clock.advance(1);
        if (step.kind === 'restart') auth = await engine.openAgain();
        try {
          await execute(auth, engine, ids, step);
        } catch (error) {
          if (!(error instanceof PantheonError)) throw error;
        }
      }
      const keys = new Map<string, KeyRecord>();
      let tenant: TenantRecord | null = null;
      const log = await logOf(auth);
      for (const event of log) {
        const { type, id } = event.subject;
        if (type === 'tenant') tenant = evolveTenant(tenant, fact('tenant', event));
        else keys.set(id, evolve(keys.get(id) ?? null, fact('key', event)));
      }
      expect([...keys.keys()].toSorted()).toEqual(ids.toSorted());
      for (const id of ids) {
        const { record, tenant: ofKey } = await auth.keys.load(id);
        expect(keys.get(id)).toEqual(record);
        expect(tenant).toEqual(ofKey);
        expect(record.versions.filter(({ acceptedUntil }) => acceptedUntil === null)).toHaveLength(1);
      }
    }),
    { numRuns: STORE === 'postgres' ? 10 : 25 },
  );
}, 60_000);

test('I3: numbers of events have no gap and no duplicate when several nodes write at the same moment', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  const made = [engine.auth, other].flatMap((auth) =>
    Array.from({ length: 20 }, () => auth.keys.create({ userId: 'u', name: 'n' })),
  );
  await Promise.all(made);
  const seqs = (await engine.sql('select seq from events order by seq')).map(({ seq }) => seq);
  expect(seqs).toEqual(seqs.map((_, at) => at + 1));
  const [head] = await engine.sql('select seq from log_head');
  expect(head?.['seq']).toBe(seqs.length);
});
