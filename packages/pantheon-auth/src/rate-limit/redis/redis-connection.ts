/**
 * Sends commands to Redis with time limits and a bounded number in progress. A primary that failed gets no commands
 * until a separate probe succeeds. `redis-limiter.ts` decides what an outage means for limits.
 */
import { type Clock, SECOND_MS } from '../../foundation/clock.ts';
import { codeOf, isErrorLike, messageOf, PantheonError } from '../../foundation/errors.ts';
import type { Secret } from '../../foundation/secret.ts';
import type { SharedLimitsContext } from '../rate-limiter.ts';
import { COMMAND_TIMEOUT_MS, CommandDeadline, CommandTimeout } from './redis-command-deadline.ts';
import { dialRedis, isOfOneKey, type RedisEndpoint, wasNotCounted } from './redis-endpoint.ts';
import { RedisOutageLog } from './redis-outage-log.ts';
import { protocolMistake } from './redis-protocol-mistake.ts';
import { unfitness } from './redis-server-facts.ts';
import { BUCKETS, isAnswerTo, probeCall, type ScriptCall } from './redis-windows.ts';

/** The interval between probes of a failed primary. */
export const PROBE_INTERVAL_MS: number = SECOND_MS;

/** How often the settings of a healthy primary are checked, because it could begin to evict keys. */
const FACTS_INTERVAL_MS: number = 5 * SECOND_MS;

/** A closed connection was often just idle, so it is opened again soon. */
const REDIAL_SOON_MS = 50;

/** After so many failed probes a new connection is opened. */
const PROBES_UNTIL_REDIAL = 3;

/** Errors of authentication and authorization, which do not pass by waiting. */
const NEVER = new Set(['WRONGPASS', 'NOAUTH', 'NOPERM']);
/** Error codes of Node's TLS for an invalid certificate or a peer without TLS. */
const TLS_CODE = /CERT|ISSUER|SELF_SIGNED|LEAF_SIGNATURE|HOSTNAME_MISMATCH|^(?:EPROTO|ERR_SSL|ERR_OSSL|ERR_TLS)/;

export interface RedisConnectionOptions {
  readonly seeds: readonly Secret[];
  readonly clock: Clock;
  readonly logger: SharedLimitsContext['logger'];
  readonly claimFirstUse: () => Promise<boolean>;
}

/** Why there is no answer. `unknown`: the request may have been counted. */
export type Unanswered = 'not_counted' | 'unknown';

/** The state of one primary. */
interface Primary {
  isHealthy: boolean;
  /** Failed probes in a row. */
  failures: number;
}

/** The server cannot be used for limits. */
class Unsupported extends Error {}

export class RedisConnection {
  readonly #options: RedisConnectionOptions;
  readonly #log: RedisOutageLog;
  #endpoint: RedisEndpoint | null = null;
  readonly #primaries = new Map<string, Primary>();
  #isRedialDue = false;
  #firstUse: Promise<boolean> | null = null;
  readonly #begun = new Set<number>();
  readonly #deadline: CommandDeadline;
  #timer: NodeJS.Timeout | null = null;
  #timerMs = 0;
  #recovery: Promise<void> | null = null;
  #wholeAtMs = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  constructor(options: RedisConnectionOptions) {
    this.#options = options;
    this.#log = new RedisOutageLog(options.logger, options.clock);
    this.#deadline = new CommandDeadline(options.clock);
  }

  /** Whether some keys cannot be counted in Redis now. */
  get isDegraded(): boolean {
    if (this.#endpoint === null) return true;
    for (const { isHealthy } of this.#primaries.values()) if (!isHealthy) return true;
    return false;
  }

  /**
   * @throws PantheonError `invalid_setting` when the server cannot be used for limits. Does not throw if it does not
   * answer.
   */
  async open(): Promise<void> {
    const failures = await this.#recoverOnce();
    const detail = (await this.#protocolMistake(failures)) ?? failures.map(remedyOf).find((remedy) => remedy !== null);
    if (detail === undefined) return;
    this.close();
    throw new PantheonError('invalid_setting', { field: 'limits.url', detail });
  }

  /** After a connection failure without a reason, checks whether TLS is set wrongly. */
  async #protocolMistake(failures: readonly unknown[]): Promise<string | null> {
    const isUnexplained = failures.some((error) => isOfTls(error) || remedyOf(error) === null);
    if (this.#endpoint !== null || !isUnexplained) return null;
    const mistakes = await Promise.all(this.#options.seeds.map(protocolMistake));
    return mistakes.find((mistake) => mistake !== null) ?? null;
  }

  /** Whether the maximum number of commands is in progress. It does not mean that Redis failed. */
  get isBusy(): boolean {
    return this.#deadline.isExhausted;
  }

  /** Whether the primary of this bucket is healthy. */
  canAsk(bucket: number): boolean {
    if (this.#endpoint === null || this.#isClosed) return false;
    return this.#primaryOf(this.#endpoint.primaryOf(bucket)).isHealthy;
  }

  /** Sends the command once, without retries. */
  async decide(call: ScriptCall): Promise<readonly number[] | Unanswered> {
    const endpoint = this.#endpoint;
    if (endpoint === null || !this.canAsk(call.bucket)) return 'not_counted';
    const name = endpoint.primaryOf(call.bucket);
    const primary = this.#primaryOf(name);
    try {
      const answer = await this.#ask(endpoint, call);
      if (answer[1] === 1) this.#log.lost();
      return answer;
    } catch (error) {
      // A command on a replaced connection says nothing about the new one.
      if (endpoint === this.#endpoint && !isOfOneKey(error)) this.#fail(name, primary, error);
      return wasNotCounted(error) ? 'not_counted' : 'unknown';
    }
  }

  /** Does not wait for commands in progress; they end by themselves. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#endpoint?.destroy();
  }

  /** A new primary counts nothing before it has been probed. */
  #primaryOf(name: string): Primary {
    const known = this.#primaries.get(name);
    if (known !== undefined) return known;
    const primary: Primary = { isHealthy: false, failures: 0 };
    this.#primaries.set(name, primary);
    this.#recoverAfter(0);
    return primary;
  }

  #fail(name: string, primary: Primary, error: unknown): void {
    if (!primary.isHealthy || this.#isClosed) return;
    primary.isHealthy = false;
    this.#log.degraded(reasonOf(error), name);
    // Immediately only the first time, so that an unstable Redis is not probed constantly.
    const { clock } = this.#options;
    const isSteady = clock.monotonicMs() - this.#wholeAtMs > PROBE_INTERVAL_MS;
    this.#recoverAfter(isSteady && this.#endpoint?.isUsable === false ? REDIAL_SOON_MS : PROBE_INTERVAL_MS);
  }

  #recoverAfter(ms: number): void {
    if (this.#isClosed || this.#recovery !== null) return;
    if (this.#timer !== null) {
      if (ms >= this.#timerMs) return;
      clearTimeout(this.#timer);
    }
    this.#timerMs = ms;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#recoverOnce();
    }, ms).unref();
  }

  /** One attempt to recover all primaries. Never rejects; returns the errors. */
  async #recoverOnce(): Promise<readonly unknown[]> {
    const failures: unknown[] = [];
    this.#recovery ??= this.#recover(failures).finally(() => {
      this.#recovery = null;
      this.#recoverAfter(this.isDegraded ? PROBE_INTERVAL_MS : FACTS_INTERVAL_MS);
    });
    await this.#recovery;
    return failures;
  }

  async #recover(failures: unknown[]): Promise<void> {
    let failedName = '';
    try {
      const isSuspect = this.#endpoint?.isUsable !== true || this.#isRedialDue;
      if (this.isDegraded && isSuspect) await this.#dial();
    } catch (error) {
      failures.push(error);
    }
    const endpoint = this.#endpoint;
    if (endpoint !== null && !this.#isClosed) {
      const held = endpoint.primaries();
      for (const name of this.#primaries.keys()) if (!held.includes(name)) this.#primaries.delete(name);
      for (const name of held) if (!this.#primaries.has(name)) this.#track(name);
      await Promise.all(
        Array.from(this.#primaries, async ([name, primary]) => {
          try {
            if (primary.isHealthy) {
              await this.#checkServer(endpoint, name);
              return;
            }
            await this.#probe(endpoint, name);
            primary.isHealthy = true;
            primary.failures = 0;
            this.#wholeAtMs = this.#options.clock.monotonicMs();
          } catch (error) {
            // A healthy primary shows by its normal commands whether it answers.
            if (primary.isHealthy && !(error instanceof Unsupported)) return;
            primary.isHealthy = false;
            failures.push(error);
            failedName = name;
            primary.failures += 1;
            // A new connection finds a replacement of the only primary, or the primary of unserved slots.
            if (!endpoint.isCluster || name === '' || primary.failures >= PROBES_UNTIL_REDIAL) this.#isRedialDue = true;
          }
        }),
      );
    }
    if (this.#isClosed) return;
    if (this.isDegraded) this.#log.degraded(reasonOf(failures[0]), failedName);
    else this.#log.whole();
  }

  #track(name: string): void {
    this.#primaries.set(name, { isHealthy: false, failures: 0 });
  }

  /** The old connection is used until the new one answers; its last commands may finish. */
  async #dial(): Promise<void> {
    const endpoint = await dialRedis(this.#options.seeds);
    const old = this.#endpoint;
    if (this.#isClosed) return endpoint.destroy();
    this.#endpoint = endpoint;
    this.#isRedialDue = false;
    for (const primary of this.#primaries.values()) primary.failures = 0;
    if (old !== null) setTimeout(() => old.destroy(), COMMAND_TIMEOUT_MS * 2).unref();
  }

  async #ask(endpoint: RedisEndpoint, call: ScriptCall): Promise<readonly number[]> {
    const answer = await this.#deadline.within(endpoint.decide(call));
    if (!isAnswerTo(call, answer)) throw new Error('not an answer of the script');
    return answer;
  }

  async #checkServer(endpoint: RedisEndpoint, name: string): Promise<void> {
    const facts = await this.#deadline.within(endpoint.facts(name));
    const reason = facts === null ? null : unfitness(facts);
    if (reason !== null) throw new Unsupported(reason);
    if (facts === null) this.#log.uninformed();
    if (facts?.isSnapshotOnly === true) this.#log.snapshotOnly();
  }

  /** Checks the settings, then counts one unit, to be sure that counting works. */
  async #probe(endpoint: RedisEndpoint, name: string): Promise<void> {
    await this.#checkServer(endpoint, name);
    const buckets = Array.from({ length: BUCKETS }, (_, bucket) => bucket).filter(
      (bucket) => endpoint.primaryOf(bucket) === name,
    );
    const [first] = buckets;
    if (first === undefined) throw new Error('no longer a primary');
    if (await this.#isFirstUse()) {
      const toBegin = buckets.filter((bucket) => !this.#begun.has(bucket));
      await Promise.all(toBegin.map((bucket) => this.#deadline.within(endpoint.begin(bucket))));
      for (const bucket of toBegin) this.#begun.add(bucket);
    }
    await this.#ask(endpoint, probeCall(first));
  }

  #isFirstUse(): Promise<boolean> {
    this.#firstUse ??= this.#options.claimFirstUse().catch((error: unknown) => {
      this.#firstUse = null;
      throw error;
    });
    return this.#firstUse;
  }
}

/** The advice for an error that does not pass by waiting; null: it may pass. */
function remedyOf(error: unknown): string | null {
  if (error instanceof Unsupported) return error.message;
  const reason = reasonOf(error);
  if (NEVER.has(reason)) return `Redis refused the login (${reason}). Check the user and the password.`;
  if (/DB index|SELECT is not allowed/i.test(messageOf(error)))
    return 'Redis has no database of that number. Check the number at the end of the address; a cluster has 0 only.';
  const code = codeOf(error) ?? '';
  if (code === 'ENOTFOUND') return `There is no such host (${code}). Check its name.`;
  if (isOfTls(error))
    return `The connection failed with ${code}. Check redis:// or rediss://, the port, and the certificate: its authority (NODE_EXTRA_CA_CERTS), its names and its dates.`;
  return null;
}

function isOfTls(error: unknown): boolean {
  return TLS_CODE.test(codeOf(error) ?? '');
}

/** The first word of an error for the log. Not the whole message, which may repeat input. */
function reasonOf(error: unknown): string {
  if (error instanceof CommandTimeout) return 'timeout';
  if (error instanceof Unsupported) return 'unfit';
  if (error instanceof PantheonError) return error.code;
  if (!isErrorLike(error)) return 'unknown';
  const [word = ''] = error.message.split(' ');
  if (/^[A-Z]{3,}$/.test(word)) return word;
  return codeOf(error) ?? 'connection';
}
