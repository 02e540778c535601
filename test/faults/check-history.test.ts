/** The judge itself: histories made by hand that must be found, and good ones that must pass. */
import { describe, expect, test } from 'vitest';
import { mostAdmittedInAnyWindow } from './check-admissions.ts';
import { checkHistory, type FinalState, type Rule } from './check-history.ts';
import { percentiles, revocationDelays } from './figures.ts';
import type { Operation, OperationKind, Outcome } from './history.ts';

const BOUNDS = { boundMs: 1_000, slackMs: 50 };

interface Given {
  readonly node?: string;
  readonly keyId?: string;
  readonly settled?: boolean;
  /** When the answer can have arrived at the earliest; default: when it was seen. */
  readonly arrivedAfterMs?: number;
}

function operation(
  op: OperationKind,
  invokedAtMs: number,
  returnedAtMs: number | null,
  outcome: Outcome,
  given: Given = {},
): Operation {
  const { node = 'a', keyId = 'k', settled = false, arrivedAfterMs = returnedAtMs ?? invokedAtMs } = given;
  return { client: 'c', node, op, keyId, settled, invokedAtMs, returnedAtMs, arrivedAfterMs, outcome };
}

const yes = (from: number, to: number, given?: Given) => operation('verify', from, to, { kind: 'yes' }, given);
const no = (code: string, from: number, to: number, given?: Given) =>
  operation('verify', from, to, { kind: 'no', code }, given);
const done = (op: OperationKind, from: number, to: number, given?: Given) =>
  operation(op, from, to, { kind: 'done' }, given);
const lost = (op: OperationKind, from: number, given?: Given) => operation(op, from, null, { kind: 'unknown' }, given);
const refused = (op: OperationKind, from: number, to: number, status: number, code: string) =>
  operation(op, from, to, { kind: 'refused', status, code });
const unavailable = (op: OperationKind, from: number, to: number, given?: Given) =>
  operation(op, from, to, { kind: 'unavailable', code: 'store_unavailable' }, given);
const ending = (node: string, state: FinalState['state'], version = 1): FinalState => ({
  node,
  keyId: 'k',
  state,
  version,
});

function rules(operations: readonly Operation[], endings: readonly FinalState[] = []): readonly Rule[] {
  return checkHistory(operations, endings, BOUNDS).map(({ rule }) => rule);
}

const created = done('create', 0, 10);
const elsewhere = { node: 'b' } as const;

describe('an acceptance after a revocation', () => {
  const revoked = done('revoke', 100, 110);

  test('on another node may be as late as the bound, and no later', () => {
    expect(rules([created, revoked, yes(120, 130, elsewhere)])).toEqual([]);
    expect(rules([created, revoked, yes(1_150, 1_160, elsewhere)])).toEqual([]);
    expect(rules([created, revoked, yes(1_150, 1_161, elsewhere)])).toEqual(['stale_yes']);
    expect(rules([created, revoked, yes(120, 1_161, elsewhere)])).toEqual(['stale_yes']);
  });

  test('is measured from when it can have arrived if this process read it late', () => {
    expect(rules([created, revoked, yes(120, 3_000, { node: 'b', arrivedAfterMs: 125 })])).toEqual([]);
  });

  test('may have been requested before', () => {
    expect(rules([created, yes(105, 5_000, elsewhere), revoked])).toEqual([]);
    expect(rules([created, yes(20, 30), revoked])).toEqual([]);
  });

  test('on the node that answered the revocation is an error', () => {
    expect(rules([created, revoked, yes(111, 112)])).toEqual(['stale_yes_same_node']);
  });

  test('on any node after a settled revocation is an error', () => {
    const settled = done('revoke', 100, 1_200, { settled: true });
    expect(rules([created, settled, yes(1_201, 1_202, elsewhere)])).toEqual(['stale_yes_after_settle']);
    expect(rules([created, settled, yes(1_100, 1_202, elsewhere)])).toEqual([]);
  });

  test('is allowed if the revocation was refused or not answered', () => {
    expect(rules([created, lost('revoke', 100), yes(5_000, 5_001, elsewhere)])).toEqual([]);
    expect(rules([created, unavailable('revoke', 100, 110), yes(5_000, 5_001)])).toEqual([]);
    expect(rules([created, refused('revoke', 100, 110, 409, 'conflict'), yes(5_000, 5_001)])).toEqual([]);
  });

  test('is an error after either of two revocations', () => {
    const twice = [created, done('revoke', 100, 110), done('revoke', 2_000, 2_010, elsewhere)];
    expect(rules([...twice, yes(1_500, 1_600, { node: 'c' })])).toEqual(['stale_yes']);
  });

  test('of another key is allowed', () => {
    expect(rules([created, done('revoke', 100, 110, { keyId: 'other' }), yes(5_000, 5_001)])).toEqual([]);
  });
});

describe('a revoked key stays revoked', () => {
  test('after an unanswered revocation, a node that answered revoked keeps that answer', () => {
    const told = [created, lost('revoke', 100), no('revoked', 200, 210)];
    expect(rules([...told, yes(211, 212)])).toEqual(['back_from_revoked']);
    expect(rules([...told, yes(211, 212, elsewhere)])).toEqual([]);
    expect(rules([...told, yes(1_262, 1_263, elsewhere)])).toEqual(['back_from_revoked']);
  });
});

describe('suspension', () => {
  const suspended = done('suspend', 100, 110);

  test('denies like a revocation until a resumption may have been made', () => {
    expect(rules([created, suspended, yes(111, 112)])).toEqual(['stale_yes_same_node']);
    expect(rules([created, suspended, yes(1_200, 1_300, elsewhere)])).toEqual(['stale_yes']);
    expect(rules([created, suspended, done('resume', 120, 130), yes(125, 2_000, elsewhere)])).toEqual([]);
    expect(rules([created, suspended, lost('resume', 120), yes(1_500, 1_501)])).toEqual([]);
    expect(rules([created, done('resume', 50, 60), suspended, yes(111, 112)])).toEqual(['stale_yes_same_node']);
    expect(rules([created, suspended, yes(111, 112), done('resume', 120, 130)])).toEqual(['stale_yes_same_node']);
  });

  test('denies on no node after a resumption was acknowledged', () => {
    const resumed = [created, suspended, done('resume', 120, 130)];
    expect(rules([...resumed, no('suspended', 131, 132, elsewhere)])).toEqual(['false_no']);
    expect(rules([...resumed, no('suspended', 129, 132, elsewhere)])).toEqual([]);
    expect(rules([...resumed, done('suspend', 140, 150), no('suspended', 141, 151, elsewhere)])).toEqual([]);
    expect(rules([created, lost('suspend', 100), done('resume', 120, 130), no('suspended', 131, 132)])).toEqual([]);
  });
});

describe('a wrong denial', () => {
  test.each(['unknown', 'malformed', 'expired', 'version_retired', 'insufficient_permissions'])('%s', (code) => {
    expect(rules([created, no(code, 11, 12)])).toEqual(['false_no']);
  });

  test('revoked, although no revocation was requested before the answer', () => {
    expect(rules([created, no('revoked', 20, 30)])).toEqual(['false_no']);
    expect(rules([created, no('revoked', 20, 30), done('revoke', 31, 40)])).toEqual(['false_no']);
    expect(rules([created, no('revoked', 20, 30), done('revoke', 29, 40)])).toEqual([]);
    expect(rules([created, lost('revoke', 15), no('revoked', 20, 30)])).toEqual([]);
    expect(rules([created, refused('revoke', 15, 16, 409, 'conflict'), no('revoked', 20, 30)])).toEqual(['false_no']);
  });

  test('a valid caller is refused, or an existing key is not found', () => {
    expect(rules([created, refused('verify', 20, 30, 401, 'invalid_key')])).toEqual(['false_no']);
    expect(rules([created, refused('revoke', 20, 30, 404, 'not_found')])).toEqual(['false_no']);
    expect(rules([created, refused('suspend', 20, 30, 409, 'key_revoked')])).toEqual(['false_no']);
    expect(rules([created, refused('suspend', 20, 30, 409, 'conflict')])).toEqual([]);
  });

  test('503 and no answer are not denials, and limits are checked elsewhere', () => {
    expect(rules([created, unavailable('verify', 20, 30), lost('verify', 20)])).toEqual([]);
    expect(rules([created, no('rate_limited', 20, 30), no('quota_exceeded', 20, 30)])).toEqual([]);
  });
});

describe('the final state', () => {
  test('has every acknowledged change on every node', () => {
    expect(rules([created], [ending('a', 'missing')])).toEqual(['lost_acknowledgement']);
    expect(rules([created, done('revoke', 20, 30)], [ending('a', 'active')])).toEqual(['lost_acknowledgement']);
    expect(rules([created, done('rotate', 20, 30)], [ending('a', 'active', 1)])).toEqual(['lost_acknowledgement']);
    expect(rules([created, done('suspend', 20, 30)], [ending('a', 'active')])).toEqual(['lost_acknowledgement']);
    const life = [created, done('rotate', 20, 30), done('suspend', 40, 50), done('resume', 60, 70)];
    expect(rules(life, [ending('a', 'active', 2), ending('b', 'active', 2)])).toEqual([]);
    expect(rules([...life, done('revoke', 80, 90)], [ending('a', 'revoked', 2)])).toEqual([]);
  });

  test('has no change that was not requested', () => {
    expect(rules([created], [ending('a', 'revoked')])).toEqual(['lost_acknowledgement']);
    expect(rules([created], [ending('a', 'suspended')])).toEqual(['lost_acknowledgement']);
    expect(rules([created], [ending('a', 'active', 2)])).toEqual(['lost_acknowledgement']);
    expect(rules([created, refused('revoke', 20, 30, 409, 'conflict')], [ending('a', 'revoked')])).toEqual([
      'lost_acknowledgement',
    ]);
  });

  test('may or may not have an unanswered change, the same on every node', () => {
    const asked = [created, lost('revoke', 20), unavailable('rotate', 30, 40)];
    for (const state of ['active', 'revoked'] as const) {
      for (const version of [1, 2]) expect(rules(asked, [ending('a', state, version)])).toEqual([]);
    }
    expect(rules(asked, [ending('a', 'active'), ending('b', 'revoked')])).toEqual(['nodes_disagree']);
    expect(rules(asked, [ending('a', 'active', 1), ending('b', 'active', 2)])).toEqual(['nodes_disagree']);
  });

  test('may have either of two overlapping changes as the last', () => {
    const both = [created, done('suspend', 20, 40), done('resume', 30, 50)];
    expect(rules(both, [ending('a', 'active')])).toEqual([]);
    expect(rules(both, [ending('a', 'suspended')])).toEqual([]);
  });
});

test('admissions are counted in the fullest window, by complete intervals', () => {
  const admitted = [0, 100, 900, 1_000, 1_050].map((at) => yes(at, at + 10));
  expect(mostAdmittedInAnyWindow(admitted, 1_000)).toBe(4);
  // The last one may have been admitted after the window.
  expect(mostAdmittedInAnyWindow([yes(0, 10), yes(990, 1_010)], 1_000)).toBe(1);
  expect(mostAdmittedInAnyWindow([no('rate_limited', 0, 10), lost('verify', 0)], 1_000)).toBe(0);
});

test('delays are reported per revocation and other node, from the answer on', () => {
  const history = [
    done('revoke', 100, 110),
    no('revoked', 111, 112),
    yes(115, 120, elsewhere),
    no('revoked', 121, 130, elsewhere),
    no('revoked', 100, 109, { node: 'c' }),
  ];
  const { untilRefused, untilLastYes } = revocationDelays(history, [{ id: 'k' }]);
  expect(untilRefused).toEqual({ p50: 0, p99: 20, max: 20, count: 2 });
  expect(untilLastYes).toMatchObject({ max: 10, count: 2 });
  expect(percentiles([3, 1, 2])).toEqual({ p50: 2, p99: 3, max: 3, count: 3 });
});
