import { expect, test } from 'vitest';
import type { Purpose, QueueKey } from '../../events/write-lanes.ts';
import { ReserveShares } from './reserve-shares.ts';

const RESERVE_BYTES = 3_200;
const key = (tenantId: string, purpose: Purpose): QueueKey => {
  return { lane: 'protective', tenantId, callerId: 'caller', purpose };
};

/** Writes of 10 bytes each, one after the other. */
function setUp() {
  let bytes = 1_000_000;
  const shares = new ReserveShares(RESERVE_BYTES, () => bytes);
  const write = (of: QueueKey): boolean => {
    if (!shares.admits(of)) return false;
    bytes += 10;
    shares.wrote(of);
    return true;
  };
  /** How many are admitted in a row. */
  const count = (of: QueueKey, atMost = 1_000): number => {
    let written = 0;
    while (written < atMost && write(of)) written += 1;
    return written;
  };
  return { shares, count };
}

test('while the space was not released, no tenant uses a share of it', () => {
  const { count } = setUp();
  expect(count(key('a', 'restricts'))).toBe(1_000);
});

test('a tenant that suspends and restricts keys without end leaves space to others, and more of it for revocations', () => {
  const { shares, count } = setUp();
  shares.setSpent(true);
  const restricted = count(key('a', 'restricts'));
  expect(restricted).toBeGreaterThan(50);
  expect(restricted * 10).toBeLessThan(RESERVE_BYTES / 4);
  expect(count(key('b', 'restricts'))).toBeGreaterThan(0);
  expect(count(key('a', 'ends'))).toBeGreaterThan(0);
});

test('a tenant that revokes its keys without end leaves a share to every other one, and to the operator all that there is', () => {
  const { shares, count } = setUp();
  shares.setSpent(true);
  expect(count(key('a', 'ends')) * 10).toBeLessThan(RESERVE_BYTES / 2);
  for (const tenant of ['b', 'c', 'd']) expect(count(key(tenant, 'ends'))).toBeGreaterThan(30);
  for (const tenant of ['b', 'c', 'd', 'a']) expect(count(key(tenant, 'ends'))).toBe(0);
  expect(count(key('a', 'operates'))).toBe(1_000);
});

test('when the space is reserved again, all shares are new', () => {
  const { shares, count } = setUp();
  shares.setSpent(true);
  const first = count(key('a', 'restricts'));
  shares.setSpent(true);
  expect(count(key('a', 'restricts'))).toBe(0);
  shares.setSpent(false);
  shares.setSpent(true);
  expect(count(key('a', 'restricts'))).toBe(first);
});
