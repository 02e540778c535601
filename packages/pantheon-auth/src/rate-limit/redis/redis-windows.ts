/** Encodes calls of the script in `redis-windows-script.ts`, chooses their bucket, and parses the answers. No I/O. */
import type { LimitState } from '../../domain/limits.ts';
import type { Instant } from '../../foundation/clock.ts';
import { invariant } from '../../foundation/errors.ts';
import { type LimitRequest, rateState } from '../rate-limiter.ts';

/**
 * The number of hash tags over which keys are spread: more than any cluster has primaries, and few enough to create all
 * markers at the first start.
 */
export const BUCKETS = 256;

/** With the number of the form in which windows are stored: what was counted in another one is not read. */
const PREFIX = 'pantheon-auth:limits:2:';

/** Key ids are longer, so this is none. */
const PROBE_ID = 'probe';

/** Writes a counter with a limit that is never reached. */
const PROBE_ARGUMENTS: readonly string[] = ['1', '1', '0', 'probe', '1000000000', '1', '0'];

/** One call of the script. */
export interface ScriptCall {
  readonly bucket: number;
  /** The keys of the state and the marker, in one cluster slot. */
  readonly keys: readonly [string, string];
  readonly args: readonly string[];
}

export interface WindowsAnswer {
  readonly isAdmitted: boolean;
  /** In the order of the rules. */
  readonly limits: readonly LimitState[];
  /** Seconds until the cost fits, per rule; 0 when it fits now. */
  readonly waitSeconds: readonly number[];
}

/** The bucket of a key (FNV-1a). It must never change and is the same on every node. */
export function bucketOf(keyId: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < keyId.length; at += 1) hash = Math.imul(hash ^ keyId.charCodeAt(at), 0x01000193);
  return (hash >>> 0) % BUCKETS;
}

export function markerKey(bucket: number): string {
  return `${PREFIX}{${bucket}}`;
}

export function stateKey(keyId: string): string {
  return `${markerKey(bucketOf(keyId))}:${keyId}`;
}

/** Asks for a key. `isTaking` false: nothing is consumed, whatever the answer. `owed`: per rule, empty for none. */
export function decideCall(
  request: LimitRequest,
  {
    now,
    isTaking,
    pending,
  }: { readonly now: Instant; readonly isTaking: boolean; readonly pending: readonly number[] },
): ScriptCall {
  const { keyId, rules, cost, createdAt } = request;
  const bucket = bucketOf(keyId);
  const marker = markerKey(bucket);
  const ageMs = Math.floor(now - createdAt);
  const args = [String(cost), isTaking ? '1' : '0', String(ageMs)];
  rules.forEach(({ name, limit, windowSeconds }, nth) => {
    args.push(name, String(limit), String(windowSeconds), String(pending[nth] ?? 0));
  });
  return { bucket, keys: [`${marker}:${keyId}`, marker], args };
}

/** A call that is admitted if counting works, for no real key. */
export function probeCall(bucket: number): ScriptCall {
  const marker = markerKey(bucket);
  return { bucket, keys: [`${marker}:${PROBE_ID}`, marker], args: PROBE_ARGUMENTS };
}

/** Whether an answer has the expected form. A proxy or another script may return anything. */
export function isAnswerTo(call: ScriptCall, answer: unknown): answer is readonly number[] {
  const rules = (call.args.length - 3) / 4;
  return Array.isArray(answer) && answer.length === 2 + rules * 3 && answer.every(Number.isSafeInteger);
}

/** Reads what the script answered to {@link decideCall}. */
export function readAnswer(answer: readonly number[], request: LimitRequest): WindowsAnswer {
  invariant(answer.length === 2 + request.rules.length * 3, 'the script answers for every rule');
  const limits: LimitState[] = [];
  const waitSeconds: number[] = [];
  request.rules.forEach((rule, nth) => {
    const at = 2 + nth * 3;
    limits.push(rateState(rule, answer[at] ?? 0, answer[at + 1] ?? 0));
    waitSeconds.push(answer[at + 2] ?? 0);
  });
  return { isAdmitted: answer[0] === 1, limits, waitSeconds };
}

/** The slot of a Redis Cluster that holds a bucket: CRC-16/XMODEM of the hash tag. */
export function clusterSlotOf(bucket: number): number {
  let crc = 0;
  for (const character of String(bucket)) {
    crc ^= character.charCodeAt(0) << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = ((crc << 1) ^ ((crc & 0x8000) === 0 ? 0 : 0x1021)) & 0xffff;
  }
  return crc % 16_384;
}
