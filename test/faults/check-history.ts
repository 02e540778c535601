/**
 * The judge of a recorded history: pure, so that it is itself tested with histories that must fail. Each key is a
 * register; a change takes effect at some moment between its call and its answer, or, unanswered, at any moment after its
 * call. Whatever cannot be explained so is a violation. It errs to one side only: what it reports is wrong.
 */
import type { Operation, OperationKind } from './history.ts';

export type Rule =
  /** A yes on a fact that is older than the bound. */
  | 'stale_yes'
  /** A yes on the node that had answered the change. */
  | 'stale_yes_same_node'
  /** A yes after a change that was answered as settled. */
  | 'stale_yes_after_settle'
  /** A yes after some node had said `revoked`. */
  | 'back_from_revoked'
  /** A live key was told dead, or a good caller was turned away. */
  | 'false_no'
  /** What was acknowledged is not there in the end. */
  | 'lost_acknowledgement'
  /** In the end nodes tell different things of one key. */
  | 'nodes_disagree';

/** How one node tells one key in the end, after everything was healed. */
export interface FinalState {
  readonly node: string;
  readonly keyId: string;
  readonly state: 'active' | 'suspended' | 'revoked' | 'missing';
  readonly version: number;
}

export interface Bounds {
  /** `stalenessMax`. */
  readonly boundMs: number;
  /**
   * What may lie between the moment at which a node looks at the age of its yes and the moment at which the answer can be
   * seen: sending it, and waiting for a core of a busy machine.
   */
  readonly slackMs: number;
}

/** The documented bound, and room for a machine on which every process of a test shares two cores. */
export const BOUNDS_DEFAULT: Bounds = { boundMs: 1_000, slackMs: 100 };

export interface Violation {
  readonly rule: Rule;
  readonly keyId: string;
  readonly message: string;
}

/** @returns nothing when the history can be explained. */
export function checkHistory(
  operations: readonly Operation[],
  finalStates: readonly FinalState[],
  bounds: Bounds = BOUNDS_DEFAULT,
): readonly Violation[] {
  const registers = groupBy(operations, ({ keyId }) => keyId);
  const endings = groupBy(finalStates, ({ keyId }) => keyId);
  return [
    ...[...registers].flatMap(([keyId, ofKey]) => checkRegister(keyId, ofKey, bounds)),
    ...[...endings].flatMap(([keyId, states]) => checkEnding(keyId, registers.get(keyId) ?? [], states)),
  ];
}

/** An operation that was answered. */
type Answered = Operation & { readonly returnedAtMs: number };

function checkRegister(keyId: string, operations: readonly Operation[], bounds: Bounds): readonly Violation[] {
  const of = (...kinds: readonly OperationKind[]) => operations.filter(({ op }) => kinds.includes(op));
  const changes = {
    ends: of('revoke', 'suspend'),
    resumes: of('resume'),
    suspends: of('suspend'),
    revokes: of('revoke'),
  };
  const verifications = of('verify').filter(isAnswered);
  const saidRevoked = earliestByNode(verifications.filter(({ outcome }) => isNo(outcome, 'revoked')));
  const found: Violation[] = [];
  for (const operation of operations.filter(isAnswered)) {
    const rule =
      operation.outcome.kind === 'yes'
        ? (staleness(operation, changes, bounds) ?? resurrection(operation, saidRevoked, bounds))
        : falseNo(operation, changes);
    if (rule !== null) found.push({ rule, keyId, message: describe(operation, changes) });
  }
  return found;
}

interface Changes {
  readonly ends: readonly Operation[];
  readonly resumes: readonly Operation[];
  readonly suspends: readonly Operation[];
  readonly revokes: readonly Operation[];
}

/** Whether no moment that the yes may speak of lies before the end of the key. */
function staleness(yes: Answered, { ends, resumes }: Changes, bounds: Bounds): Rule | null {
  let found: Rule | null = null;
  for (const end of ends) {
    if (end.outcome.kind !== 'done' || end.returnedAtMs === null || end.returnedAtMs >= yes.invokedAtMs) continue;
    if (end.op === 'suspend' && resumes.some((resume) => mayUndo(resume, end, yes))) continue;
    if (end.settled) return 'stale_yes_after_settle';
    if (end.node === yes.node) return 'stale_yes_same_node';
    if (yes.arrivedAfterMs > end.returnedAtMs + bounds.boundMs + bounds.slackMs) found = 'stale_yes';
  }
  return found;
}

/** Whether a resumption may have come after the suspension and before the yes. */
function mayUndo(resume: Operation, suspend: Operation, yes: Answered): boolean {
  if (resume.outcome.kind === 'refused' || resume.invokedAtMs >= yes.returnedAtMs) return false;
  return !isAcknowledged(resume) || resume.returnedAtMs > suspend.invokedAtMs;
}

function resurrection(yes: Answered, saidRevoked: ReadonlyMap<string, Answered>, bounds: Bounds): Rule | null {
  for (const [node, no] of saidRevoked) {
    if (no.returnedAtMs >= yes.invokedAtMs) continue;
    const isLate = yes.arrivedAfterMs > no.returnedAtMs + bounds.boundMs + bounds.slackMs;
    if (node === yes.node || isLate) return 'back_from_revoked';
  }
  return null;
}

/** These say something of how much a key was used: `check-admissions.ts` judges them. */
const LIMITED: ReadonlySet<string> = new Set(['rate_limited', 'quota_exceeded']);

/** Callers and key strings of a history are good from the moment they are known, until somebody asks to end them. */
function falseNo(operation: Answered, changes: Changes): Rule | null {
  const { outcome } = operation;
  if (outcome.kind === 'refused') {
    if (outcome.code === 'key_revoked') return mayBeRevoked(operation, changes) ? null : 'false_no';
    return outcome.status === 401 || outcome.status === 403 || outcome.status === 404 ? 'false_no' : null;
  }
  if (outcome.kind !== 'no' || LIMITED.has(outcome.code)) return null;
  if (outcome.code === 'revoked') return mayBeRevoked(operation, changes) ? null : 'false_no';
  if (outcome.code === 'suspended') return mayBeSuspended(operation, changes) ? null : 'false_no';
  return 'false_no';
}

function mayBeRevoked(answer: Answered, { revokes }: Changes): boolean {
  return revokes.some((revoke) => revoke.outcome.kind !== 'refused' && revoke.invokedAtMs < answer.returnedAtMs);
}

/** A no is about a moment after the request arrived (I5): a resumption that was acknowledged before it settles it. */
function mayBeSuspended(answer: Answered, { suspends, resumes }: Changes): boolean {
  return suspends.some((suspend) => {
    if (suspend.outcome.kind === 'refused' || suspend.invokedAtMs >= answer.returnedAtMs) return false;
    if (!isAcknowledged(suspend)) return true;
    const { returnedAtMs } = suspend;
    return !resumes.some(
      (resume) =>
        isAcknowledged(resume) && resume.invokedAtMs > returnedAtMs && resume.returnedAtMs < answer.invokedAtMs,
    );
  });
}

function checkEnding(
  keyId: string,
  operations: readonly Operation[],
  states: readonly FinalState[],
): readonly Violation[] {
  const violations: Violation[] = [];
  const [first, ...others] = states;
  for (const other of others) {
    if (first === undefined || (other.state === first.state && other.version === first.version)) continue;
    const message = `${first.node} tells ${told(first)}, ${other.node} tells ${told(other)}`;
    violations.push({ rule: 'nodes_disagree', keyId, message });
  }
  for (const state of states) {
    const expected = contradiction(operations, state);
    if (expected !== null) {
      const message = `${expected}, and ${state.node} tells ${told(state)}`;
      violations.push({ rule: 'lost_acknowledgement', keyId, message });
    }
  }
  return violations;
}

/** What was acknowledged that this ending does not show; null: nothing. */
function contradiction(operations: readonly Operation[], ending: FinalState): string | null {
  const tried = operations.filter(({ op, outcome }) => op !== 'verify' && outcome.kind !== 'refused');
  const of = (...kinds: readonly OperationKind[]) => tried.filter(({ op }) => kinds.includes(op));
  const acknowledged = (list: readonly Operation[]) => list.filter(isAcknowledged);
  if (ending.state === 'missing') return acknowledged(tried).length > 0 ? 'its creation was acknowledged' : null;

  const rotations = of('rotate');
  const least = 1 + acknowledged(rotations).length;
  if (ending.version < least) return `${least - 1} rotations were acknowledged`;
  if (ending.version > 1 + rotations.length) return `only ${rotations.length} rotations were asked for`;

  const revokes = of('revoke');
  if (acknowledged(revokes).length > 0) return ending.state === 'revoked' ? null : 'its revocation was acknowledged';
  if (ending.state === 'revoked') return revokes.length > 0 ? null : 'nobody asked to revoke it';
  if (revokes.length > 0) return null;

  const expected = lastToggle(of('suspend', 'resume'));
  return expected === null || expected === ending.state ? null : `the last change left it ${expected}`;
}

/** Null: changes overlapped or were not answered, and it may be either. */
function lastToggle(toggles: readonly Operation[]): 'active' | 'suspended' | null {
  if (!toggles.every(isAcknowledged)) return null;
  const [last, ...before] = toggles.toSorted((a, b) => b.invokedAtMs - a.invokedAtMs);
  if (last === undefined) return 'active';
  if (before.some(({ returnedAtMs }) => returnedAtMs >= last.invokedAtMs)) return null;
  return last.op === 'suspend' ? 'suspended' : 'active';
}

function isAnswered(operation: Operation): operation is Answered {
  return operation.returnedAtMs !== null;
}

function isAcknowledged(operation: Operation): operation is Answered {
  return operation.outcome.kind === 'done' && operation.returnedAtMs !== null;
}

function isNo(outcome: Operation['outcome'], code: string): boolean {
  return outcome.kind === 'no' && outcome.code === code;
}

function earliestByNode(answers: readonly Answered[]): ReadonlyMap<string, Answered> {
  const earliest = new Map<string, Answered>();
  for (const answer of answers) {
    const known = earliest.get(answer.node);
    if (known === undefined || answer.returnedAtMs < known.returnedAtMs) earliest.set(answer.node, answer);
  }
  return earliest;
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): ReadonlyMap<string, readonly T[]> {
  return Map.groupBy(items, keyOf);
}

function told({ state, version }: FinalState): string {
  return state === 'missing' ? state : `${state}, version ${version}`;
}

/** The operation and everything that was done to its key, in order of time, relative to its call. */
function describe(operation: Operation, { ends, resumes }: Changes): string {
  const line = (one: Operation): string => {
    const at = (ms: number | null) => (ms === null ? 'never' : `${(ms - operation.invokedAtMs).toFixed(1)} ms`);
    const code = 'code' in one.outcome ? ` ${one.outcome.code}` : '';
    const how = one.settled ? ' (settled)' : '';
    return `${one.op}${how} on ${one.node}: ${at(one.invokedAtMs)} to ${at(one.returnedAtMs)}, ${one.outcome.kind}${code}`;
  };
  const others = [...ends, ...resumes].filter((one) => one !== operation);
  return [line(operation), ...others.toSorted((a, b) => a.invokedAtMs - b.invokedAtMs).map(line)].join('; ');
}
