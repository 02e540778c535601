import { describe, expect, test } from 'vitest';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine } from '../../test/test-engine.ts';
import { type CallerGuard, unconditional } from '../commands/caller.ts';
import { CommandReads } from '../commands/command-reads.ts';
import { PROCESS_CALLER } from '../domain/caller.ts';
import { type KeyChange, suspendKey } from '../domain/key.ts';
import type { EventCodec } from '../events/event-codec.ts';
import { PantheonError } from '../foundation/errors.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { StoredKey } from '../verification/stored-key.ts';
import type { VerificationCache } from '../verification/verification-cache.ts';
import { KeyChanges } from './key-changes.ts';
import type { KeyStorage } from './key-storage.ts';

const BY = {
  actor: { keyId: null, userId: null, address: null, userAgent: null },
  requestId: null,
  reason: null,
};

const COMMAND = { by: PROCESS_CALLER, action: 'keys.update', tenantId: 'default', keyId: 'a' } as const;

/** Changes over a store that does with a commit what `outcomes` says, in this order, the last one for ever. */
function setUp(outcomes: (PantheonError | null)[]) {
  const forgotten: string[] = [];
  const committed: KeyChange[] = [];
  let revision = 1;
  let attempts = 0;
  const storage = {
    findIn: async (): Promise<StoredKey> => {
      revision += 1;
      const record = { id: 'a', tenantId: 'default', state: { kind: 'active' }, versions: [], revision };
      return { record, secrets: [], tenant: {} } as unknown as StoredKey;
    },
    commit: async ([{ change }]: [{ change: KeyChange }]) => {
      const outcome = outcomes[Math.min(attempts, outcomes.length - 1)] ?? null;
      attempts += 1;
      if (outcome !== null) throw outcome;
      committed.push(change);
    },
  } as unknown as KeyStorage;
  const cache = { invalidate: (id: string) => void forgotten.push(id) } as unknown as VerificationCache;
  const guard: CallerGuard = { confirm: async (by) => unconditional(by) };
  const changes = new KeyChanges({
    storage,
    cache,
    events: {} as EventCodec,
    guard,
    reads: new CommandReads({ ordinary: 1, protective: 1 }, new TestClock()),
  });
  const suspend = () =>
    changes.change(
      {
        ...COMMAND,
        decide: ({ record, secrets }) => {
          const change = suspendKey(record, BY, 1);
          return change && { change, secrets };
        },
      },
      'protective',
    );
  return { suspend, changes, forgotten, committed, attempts: () => attempts };
}

const CONFLICT = new PantheonError('conflict');

test('a change that meets a conflict reads again and decides on the current record', async () => {
  const { suspend, committed, forgotten } = setUp([CONFLICT, CONFLICT, null]);
  expect(await suspend()).toMatchObject({ state: { kind: 'suspended' }, revision: 5 });
  expect(committed.map(({ expectedRevision }) => expectedRevision)).toEqual([4]);
  expect(forgotten).toEqual(['a', 'a', 'a']);
});

test('a change that meets a conflict every time ends with conflict, after a bounded number of attempts', async () => {
  const { suspend, attempts } = setUp([CONFLICT]);
  await expect(suspend()).rejects.toBe(CONFLICT);
  expect(attempts()).toBe(5);
});

test('an unknown outcome is reported and not retried, and the cached key is invalidated all the same (I4)', async () => {
  const unknown = new PantheonError('outcome_unknown');
  const { suspend, forgotten, attempts } = setUp([unknown]);
  await expect(suspend()).rejects.toBe(unknown);
  expect([attempts(), forgotten]).toEqual([1, ['a']]);
});

test('a call that changes nothing writes nothing', async () => {
  const { changes, attempts } = setUp([null]);
  expect(await changes.change({ ...COMMAND, decide: () => null }, 'ordinary')).toMatchObject({ id: 'a' });
  expect(attempts()).toBe(0);
});

test('a long history is replayed in full', async () => {
  await using opened = await openTestEngine();
  const { auth } = opened;
  const { apiKey } = await auth.keys.create({ userId: 'u', name: 'n' });
  for (let n = 0; n < 205; n += 1) await auth.keys.update(apiKey.id, { description: `${n}` });
  await opened.sql(`update api_keys set name = 'x'`);
  expect((await refusalOf(auth.keys.get(apiKey.id))).code).toBe('key_quarantined');
  expect(await auth.keys.revoke(apiKey.id)).toMatchObject({ name: 'n', description: '204', state: 'revoked' });
});

describe('a damaged key, to be revoked, is rebuilt from the log', () => {
  /** What the log says of a key: its creation, then events of these types that are damaged. */
  async function rebuilt(types: readonly string[]) {
    await using scratch = await openTestEngine();
    const { apiKey } = await scratch.auth.keys.create({ userId: 'u', name: 'n' });
    const { items } = await scratch.auth.events.list('default', { subjectId: apiKey.id });
    const log = [
      ...items.map((event, nth) => ({ ...event, at: event.at.getTime(), seq: nth + 1 })),
      ...types.map((type, nth) => {
        const subject = { type: 'key', id: apiKey.id };
        return { id: `e${nth}`, seq: nth + 2, at: 1_000 + nth, tenantId: 'default', type, subject, damaged: true };
      }),
    ];
    const guard: CallerGuard = { confirm: async (by) => unconditional(by) };
    const changes = new KeyChanges({
      storage: {
        findIn: async () => {
          throw new PantheonError('key_quarantined');
        },
        revisionAsStored: async () => 1,
      } as unknown as KeyStorage,
      cache: {} as VerificationCache,
      // In two pages, as a long log comes.
      events: {
        list: async ({ after }: { after: number | null }) =>
          after === null ? { items: log.slice(0, 1), next: 1 } : { items: log.slice(1), next: null },
      } as unknown as EventCodec,
      guard,
      reads: new CommandReads({ ordinary: 1, protective: 1 }, new TestClock()),
    });
    const { record } = await changes.loadToRevoke('default', apiKey.id, {
      owner: 'default',
      callerId: 'test',
    } as never);
    return record;
  }

  test('gets the revision that the row must have, whatever the damaged events say', async () => {
    const revising = ['key.updated', 'key.suspended', 'key.resumed', 'key.version_retired', 'key.secret_replaced'];
    const more = ['key.tokens_revoked', 'key.dates_corrected', 'key.created'];
    const others = ['key.exposed_in_url', 'key.exposed_in_text', 'key.token_issued', 'key.of_a_later_version'];
    expect(await rebuilt([...revising, ...more, ...others])).toMatchObject({
      revision: 1 + revising.length + more.length,
      state: { kind: 'active' },
      version: 1,
    });
    // Damaged in what it is about, too: the row that it revised is this one, as far as can be known.
    expect(await rebuilt(['tenant.updated'])).toMatchObject({ revision: 2 });
  });

  test('gets its versions and its end of validity', async () => {
    const record = await rebuilt(['key.rotated', 'key.rotated', 'key.revoked']);
    expect(record).toMatchObject({ version: 3, revision: 4, state: { kind: 'revoked', at: 1_002 } });
    expect(record.versions.map(({ version, acceptedUntil }) => [version, acceptedUntil])).toEqual([
      [3, null],
      [2, 1_001],
      [1, 1_000],
    ]);
  });
});
