/** What a caller is shown whose key ends while its request waits: nothing. */
import { expect, test, vi } from 'vitest';
import { CallerReads } from '../src/commands/caller-reads.ts';
import { runCommand } from '../src/commands/run-command.ts';
import type { Caller } from '../src/domain/key-policy.ts';
import { PantheonError } from '../src/foundation/errors.ts';
import { READS_AT_ONCE_MAX, ReadTurns } from '../src/foundation/read-turns.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { callerFor, callerWith } from './callers.ts';
import { openTestEngine, type TestEngine } from './test-engine.ts';

const READS = {
  'a list of keys': ({ auth }, by) => auth.keys.list({}, { by }),
  'a key': ({ auth }, by) => auth.keys.get(idOf(by), { by }),
  'its own key': ({ auth }, by) => auth.keys.getSelf(by),
  'the versions of a key': ({ auth }, by) => auth.keys.versions(idOf(by), { by }),
  'the uses of a key': ({ auth, clock }, by) => auth.keys.usage(idOf(by), aDayUntil(clock.now()), { by }),
  'the uses of all keys': ({ auth, clock }, by) => auth.keys.usage(null, aDayUntil(clock.now()), { by }),
  'the audit trail': ({ auth }, by) => auth.events.list('default', {}, { by }),
  tenants: ({ auth }, by) => auth.tenants.list({}, { by }),
  'a tenant': ({ auth }, by) => auth.tenants.get('default', { by }),
} satisfies Record<string, (engine: TestEngine, by: Caller) => Promise<unknown>>;

type Shown = keyof typeof READS;
const OF_SYSTEM: ReadonlySet<Shown> = new Set<Shown>(['tenants', 'a tenant']);

test.each(Object.keys(READS) as Shown[])(
  '%s is not shown to a key that was revoked while its read waited',
  async (shown) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const tenant = auth.tenant(OF_SYSTEM.has(shown) ? 'system' : 'default');
    const permissions = ['pantheon:keys:read', 'pantheon:events:read', 'pantheon:tenants:read'];
    const { apiKey, key } = await tenant.keys.create({ userId: 'u', name: 'spy', permissions });
    const by = await callerFor(auth, key);
    await expect(READS[shown](engine, by)).resolves.toBeDefined();

    let isRevoked = false;
    let shownLater = 0;
    const flood = Array.from({ length: 100 }, async () => {
      await READS[shown](engine, by);
      if (isRevoked) shownLater += 1;
    });
    const answered = Promise.allSettled(flood);
    await tenant.keys.revoke(apiKey.id);
    isRevoked = true;
    await expect(READS[shown](engine, by)).rejects.toMatchObject({ code: 'revoked' });
    await answered;
    // Those that had begun.
    expect(shownLater).toBeLessThanOrEqual(READS_AT_ONCE_MAX);
  },
);

test('a suspended key, and one without the permission, is shown nothing either', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  for (const [change, code] of [
    [(id: string) => auth.keys.suspend(id), 'suspended'],
    [(id: string) => auth.keys.update(id, { permissions: ['docs:read'] }), 'insufficient_permissions'],
    [(id: string) => auth.rotation.rotate(id, { overlap: '0s' }), 'version_retired'],
  ] as const) {
    const { apiKey, key } = await auth.keys.create({ userId: 'u', name: 'spy', permissions: ['pantheon:keys:read'] });
    const by = await callerFor(auth, key);
    await change(apiKey.id);
    await expect(auth.keys.list({}, { by })).rejects.toMatchObject({ code });
  }
});

/** Confirms a caller whose key is revoked at some moment, with facts that may be a second old. */
function guarded() {
  const clock = new TestClock();
  let isRevoked = false;
  const by = callerWith({});
  const confirm = vi.fn(async () => {
    if (isRevoked) throw new PantheonError('revoked');
    const asOf = clock.monotonicMs();
    return { caller: { ...by, own: null }, preconditions: [], isFresh: () => clock.monotonicMs() - asOf <= 1_000 };
  });
  const revokeAndWait = (ms: number): void => {
    isRevoked = true;
    clock.advance(ms);
  };
  return { clock, by, guard: { confirm }, revokeAndWait };
}

test('an answer rests on no fact about its caller that is older than the staleness, however long the read takes', async () => {
  const { clock, by, guard, revokeAndWait } = guarded();
  const reads = new CallerReads({ turns: new ReadTurns({ atOnceMax: 1, clock }), guard });
  const read = async (): Promise<string> => {
    revokeAndWait(1_001);
    return 'keys';
  };
  const shown = { by, action: 'keys.read', tenantId: 'default' } as const;
  await expect(reads.run(shown, async () => 'keys')).resolves.toBe('keys');
  expect(guard.confirm).toHaveBeenCalledTimes(1);
  await expect(reads.run(shown, read)).rejects.toMatchObject({ code: 'revoked' });
});

test('a read whose caller ended while it waited is not begun', async () => {
  const { clock, by, guard, revokeAndWait } = guarded();
  const reads = new CallerReads({ turns: new ReadTurns({ atOnceMax: 1, clock }), guard });
  const shown = { by, action: 'keys.read', tenantId: 'default' } as const;
  let end = (): void => {};
  const first = reads.run(shown, () => new Promise<void>((resolve) => (end = resolve)));
  const read = vi.fn(async () => 'keys');
  const waiting = reads.run(shown, read);
  waiting.catch(() => {});
  await new Promise(setImmediate);
  revokeAndWait(0);
  end();
  await first;
  await expect(waiting).rejects.toMatchObject({ code: 'revoked' });
  expect(read).not.toHaveBeenCalled();
});

test('nor does the answer to a change that changes nothing and waited to find that out', async () => {
  const { by, guard, revokeAndWait } = guarded();
  const command = {
    by,
    action: 'keys.update',
    tenantId: 'default',
    decide: () => null,
    commit: async () => {},
  } as const;
  await expect(runCommand({ ...command, load: async () => 'a record' }, guard)).resolves.toMatchObject({
    loaded: 'a record',
  });
  const load = async (): Promise<string> => {
    revokeAndWait(1_001);
    return 'a record';
  };
  await expect(runCommand({ ...command, load }, guard)).rejects.toMatchObject({ code: 'revoked' });
});

function idOf({ authority }: Caller): string {
  return authority.kind === 'key' ? authority.keyId : '';
}

function aDayUntil(now: number): { readonly from: number; readonly to: number; readonly granularity: 'day' } {
  return { from: now - 86_400_000, to: now, granularity: 'day' };
}
