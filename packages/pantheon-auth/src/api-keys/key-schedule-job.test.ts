import { expect, test } from 'vitest';
import { PantheonError } from '../foundation/errors.ts';
import type { KeyScheduleWrite } from '../schema/key-schedule-row.ts';
import { TestClock } from '../testing/test-clock.ts';
import { KEYS_OF_TENANT_PER_RUN_MAX, KeyScheduleJob, type KeyScheduleJobDeps } from './key-schedule-job.ts';
import type { ScheduledKey } from './key-schedule-rows.ts';

const LEASE = { kind: 'lease', name: 'key-schedule', nodeId: 'n', fence: 1 } as const;
const rowOf = (tenant: string, key: string): ScheduledKey => ({
  key_id: key,
  tenant_id: tenant,
  revision: 1,
  look_at: 0,
  awaits_use_of: null,
  announced: null,
  announced_version: null,
  announced_since: null,
  expiry_announced: null,
  expiry_announced_of: null,
});

/** Keys that cannot be found, so that each is only planned again, unless reading it fails. */
function setUp(rows: readonly ScheduledKey[], failing: ReadonlyMap<string, Error> = new Map()) {
  const waiting = [...rows];
  const planned: string[] = [];
  const errors: string[] = [];
  const schedules: KeyScheduleJobDeps['schedules'] = {
    isAnyDue: async () => waiting.length > 0,
    due: async (_now, { exceptTenants, limit }) =>
      waiting.filter((row) => !exceptTenants.includes(row.tenant_id)).slice(0, limit),
    plan: async (plan: KeyScheduleWrite) => {
      planned.push(plan.keyId);
      waiting.splice(
        waiting.findIndex((row) => row.key_id === plan.keyId),
        1,
      );
    },
  };
  const findIn = async (_tenantId: string, keyId: string): Promise<null> => {
    const error = failing.get(keyId);
    if (error !== undefined) throw error;
    return null;
  };
  const deps = {
    schedules,
    storage: { findIn },
    cache: { invalidate: () => {} },
    clock: new TestClock(),
    expiryNotices: [],
    onError: (_error: unknown, keyId: string) => void errors.push(keyId),
  } as unknown as KeyScheduleJobDeps;
  return { job: new KeyScheduleJob(deps), planned, errors };
}

test('a key for which something fails holds up no other one, and is looked at again later', async () => {
  const failing = new Map<string, Error>([
    ['broken', new TypeError('no inverse')],
    ['damaged', new PantheonError('key_quarantined')],
    ['crowded', new PantheonError('overloaded')],
  ]);
  const rows = ['broken', 'damaged', 'crowded', 'whole'].map((key) => rowOf('t', key));
  const { job, planned, errors } = setUp(rows, failing);
  await job.run({ isEnding: () => false, lease: LEASE });
  expect(planned).toEqual(['broken', 'damaged', 'crowded', 'whole']);
  // A damaged key is reported where it is read.
  expect(errors).toEqual(['broken', 'crowded']);
});

test('many keys of one tenant that are due leave room in each run for those of the others', async () => {
  const many = Array.from({ length: 5 * KEYS_OF_TENANT_PER_RUN_MAX }, (_, nth) => rowOf('large', `l${nth}`));
  const { job, planned } = setUp([...many, rowOf('small', 's')]);
  await job.run({ isEnding: () => false, lease: LEASE });
  expect(planned).toContain('s');
  expect(planned.length).toBe(KEYS_OF_TENANT_PER_RUN_MAX + 1);
});

test('a run that is ending, and one whose clock is in doubt, do nothing', async () => {
  const { job, planned } = setUp([rowOf('t', 'k')]);
  await job.run({ isEnding: () => true, lease: LEASE });
  expect(planned).toEqual([]);
});
