/** The figures of a run, from its history: how soon revocations reached the other nodes, and how often there was an answer. */
import type { Violation } from './check-history.ts';
import type { Operation } from './history.ts';

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly count: number;
}

export interface RevocationDelays {
  /** From the answer to the revocation until another node was seen to refuse: never less than it took. */
  readonly untilRefused: Percentiles;
  /** From the answer to the revocation until the last yes of another node. 0: there was none. */
  readonly untilLastYes: Percentiles;
}

/** One sample for each acknowledged revocation and each other node that was asked. One that settled was late on purpose. */
export function revocationDelays(
  operations: readonly Operation[],
  keys: readonly { readonly id: string }[],
): RevocationDelays {
  const watched = new Set(keys.map(({ id }) => id));
  const refused: number[] = [];
  const accepted: number[] = [];
  for (const [keyId, ofKey] of Map.groupBy(operations, (one) => one.keyId)) {
    if (!watched.has(keyId)) continue;
    const revoke = ofKey.find(({ op, outcome }) => op === 'revoke' && outcome.kind === 'done');
    if (revoke === undefined || revoke.settled || revoke.returnedAtMs === null) continue;
    const answeredAtMs = revoke.returnedAtMs;
    const elsewhere = ofKey.filter(({ op, node }) => op === 'verify' && node !== revoke.node);
    for (const ofNode of Map.groupBy(elsewhere, ({ node }) => node).values()) {
      const noes = ofNode.filter(({ outcome }) => outcome.kind === 'no' && outcome.code === 'revoked');
      const firstNo = Math.min(...noes.map(({ returnedAtMs }) => returnedAtMs ?? Number.POSITIVE_INFINITY));
      if (Number.isFinite(firstNo)) refused.push(Math.max(0, firstNo - answeredAtMs));
      const late = ofNode.filter(({ outcome, invokedAtMs }) => outcome.kind === 'yes' && invokedAtMs > answeredAtMs);
      accepted.push(Math.max(0, ...late.map(({ arrivedAfterMs }) => arrivedAfterMs - answeredAtMs)));
    }
  }
  return { untilRefused: percentiles(refused), untilLastYes: percentiles(accepted) };
}

export function percentiles(samples: readonly number[]): Percentiles {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: at(1), count: sorted.length };
}

/** How many of the operations of a kind were answered with a verdict, and what the others met. */
export function availability(operations: readonly Operation[], kinds: readonly Operation['op'][]): string {
  const asked = operations.filter(({ op }) => kinds.includes(op));
  const unavailable = asked.filter(({ outcome }) => outcome.kind === 'unavailable').length;
  const unanswered = asked.filter(({ outcome }) => outcome.kind === 'unknown').length;
  const answered = asked.length - unavailable - unanswered;
  const share = asked.length === 0 ? 100 : (100 * answered) / asked.length;
  return `${share.toFixed(2)} % of ${asked.length} (503: ${unavailable}, no answer: ${unanswered})`;
}

/** The lines every run ends with. */
export function verdictLines(operations: readonly Operation[], violations: readonly Violation[]): readonly string[] {
  const count = (...rules: readonly Violation['rule'][]) =>
    violations.filter(({ rule }) => rules.includes(rule)).length;
  const revoked = operations.filter(({ op, outcome }) => op === 'revoke' && outcome.kind === 'done').length;
  return [
    `acknowledged revocations: ${revoked}`,
    `stale yes: ${count('stale_yes', 'stale_yes_same_node', 'stale_yes_after_settle', 'back_from_revoked')}`,
    `lost acknowledgements: ${count('lost_acknowledgement', 'nodes_disagree')}`,
    `false 401s: ${count('false_no')}`,
    `verifications answered: ${availability(operations, ['verify'])}`,
    `changes answered: ${availability(operations, ['create', 'revoke', 'suspend', 'resume', 'rotate'])}`,
  ];
}

/** For a run in which nodes are away, and say nothing at all meanwhile. */
export function lastYesLine({ untilLastYes }: RevocationDelays): string {
  const { p50, p99, max, count } = untilLastYes;
  const ms = (value: number) => `${value.toFixed(1)} ms`;
  return `last yes of another node after a revocation: p50 ${ms(p50)}, p99 ${ms(p99)}, max ${ms(max)} (n=${count})`;
}

export function delayLine({ untilRefused, untilLastYes }: RevocationDelays): string {
  const { p50, p99, max, count } = untilRefused;
  const ms = (value: number) => `${value.toFixed(1)} ms`;
  return `revocation: p50 ${ms(p50)}, p99 ${ms(p99)}, max ${ms(max)} (n=${count}); last yes: max ${ms(untilLastYes.max)}`;
}

/** One block, so that it can be found in a long log. */
export function printFigures(title: string, lines: readonly string[]): void {
  const block = [`── ${title}`, ...lines.map((line) => `   ${line}`), ''].join('\n');
  process.stdout.write(`\n${block}`);
}
