import { describe, expect, test } from 'vitest';
import { LEASE_TIMES, leaseStep, type StoredLease } from './job-lease.ts';

const NOW = Date.UTC(2030, 0, 1);
const WAIT_MS_MAX = 300_000;

function step(stored: Partial<StoredLease>) {
  const lease = { nodeId: 'other', fence: 7, expiresAt: NOW, dueAt: NOW, failures: 2, storeNow: NOW, ...stored };
  return leaseStep(lease, { nodeId: 'here', now: NOW, waitMsMax: WAIT_MS_MAX, times: LEASE_TIMES });
}

describe('whether a node begins a run', () => {
  test('that never ran', () => {
    const at = { nodeId: 'here', now: NOW, waitMsMax: WAIT_MS_MAX, times: LEASE_TIMES };
    expect(leaseStep(null, at)).toEqual({ kind: 'begin', failures: 0 });
  });

  test('that is due and whose lease on the other node has expired', () => {
    expect(step({})).toEqual({ kind: 'begin', failures: 2 });
  });

  test('not while the other node has the lease, however long the job has been due', () => {
    expect(step({ expiresAt: NOW + 1, dueAt: 0 })).toEqual({ kind: 'wait', forMs: 1 });
  });

  test('not before it is due, also on the node that ran it last', () => {
    expect(step({ dueAt: NOW + 20 })).toEqual({ kind: 'wait', forMs: 20 });
    expect(step({ nodeId: 'here', dueAt: NOW + 20, expiresAt: NOW + 90 })).toEqual({ kind: 'wait', forMs: 20 });
  });

  test('without waiting for the lease that it holds itself', () => {
    expect(step({ nodeId: 'here', expiresAt: NOW + 15_000 })).toMatchObject({ kind: 'begin' });
  });

  test('a lease expires by the time of the store, and a job is due by the clock of the node', () => {
    expect(step({ storeNow: NOW - 5_000 })).toEqual({ kind: 'wait', forMs: 5_000 });
    expect(step({ storeNow: NOW + 5_000, dueAt: NOW + 3 })).toEqual({ kind: 'wait', forMs: 3 });
  });

  test('a lease written with a clock far ahead does not keep a job from running', () => {
    const year = 31_536_000_000;
    expect(step({ dueAt: NOW + year, expiresAt: NOW + year })).toMatchObject({ kind: 'begin' });
    // The longest that either may be.
    expect(step({ dueAt: NOW + WAIT_MS_MAX })).toEqual({ kind: 'wait', forMs: WAIT_MS_MAX });
    const heldMsMax = WAIT_MS_MAX + LEASE_TIMES.runHoldMs;
    expect(step({ expiresAt: NOW + heldMsMax })).toEqual({ kind: 'wait', forMs: heldMsMax });
    expect(step({ expiresAt: NOW + heldMsMax + 1 })).toMatchObject({ kind: 'begin' });
  });
});
