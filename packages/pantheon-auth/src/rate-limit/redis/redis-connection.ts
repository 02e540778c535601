/**
 * Keeps asking Redis cheap when it is well and harmless when it is not: a bound on every wait and on how many wait, and
 * no wait at all for a primary that failed, until a probe of its own has found it well again. What an outage means for
 * limits is decided by `redis-limiter.ts`.
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

/** A primary that failed is left alone this long, then asked by one probe at a time. */
export const PROBE_INTERVAL_MS: number = SECOND_MS;

/** So often a primary that is well is asked what it is: it may begin to evict without a word. */
const FACTS_INTERVAL_MS: number = 5 * SECOND_MS;

/** A connection that was closed is often just an idle one: it is dialed again almost at once. */
const REDIAL_SOON_MS = 50;

/** After so many failed probes the connection itself is suspected, and another one opened beside it. */
const PROBES_UNTIL_REDIAL = 3;

/** Answers of a Redis that will not let us in, whatever we wait. */
const NEVER = new Set(['WRONGPASS', 'NOAUTH', 'NOPERM']);
/** What Node's TLS says of a certificate that does not convince it, and of a side that does not speak TLS. */
const TLS_CODE = /CERT|ISSUER|SELF_SIGNED|LEAF_SIGNATURE|HOSTNAME_MISMATCH|^(?:EPROTO|ERR_SSL|ERR_OSSL|ERR_TLS)/;

export interface RedisConnectionOptions {
  readonly seeds: readonly Secret[];
  readonly clock: Clock;
  readonly logger: SharedLimitsContext['logger'];
  readonly claimFirstUse: () => Promise<boolean>;
}

/** Why there is no answer. `unknown`: it may have been counted all the same. */
export type Unanswered = 'not_counted' | 'unknown';

/** One primary as this node sees it. */
interface Primary {
  isHealthy: boolean;
  /** Probes in a row that failed. */
  failures: number;
}

/** What was found there can never count limits. */
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

  /** Whether some keys are not counted in Redis now. */
  get isDegraded(): boolean {
    if (this.#endpoint === null) return true;
    for (const { isHealthy } of this.#primaries.values()) if (!isHealthy) return true;
    return false;
  }

  /** @throws PantheonError `invalid_setting` when what is there can never count limits. Away is no reason to throw. */
  async open(): Promise<void> {
    const failures = await this.#recoverOnce();
    const detail = (await this.#protocolMistake(failures)) ?? failures.map(remedyOf).find((remedy) => remedy !== null);
    if (detail === undefined) return;
    this.close();
    throw new PantheonError('invalid_setting', { field: 'limits.url', detail });
  }

  /** Of a server that could not be connected to, for no reason that it gave. */
  async #protocolMistake(failures: readonly unknown[]): Promise<string | null> {
    const isUnexplained = failures.some((error) => isOfTls(error) || remedyOf(error) === null);
    if (this.#endpoint !== null || !isUnexplained) return null;
    const mistakes = await Promise.all(this.#options.seeds.map(protocolMistake));
    return mistakes.find((mistake) => mistake !== null) ?? null;
  }

  /** Whether as many questions wait as may. It says nothing about Redis. */
  get isBusy(): boolean {
    return this.#deadline.isExhausted;
  }

  /** Whether there is somebody to ask. */
  canAsk(bucket: number): boolean {
    if (this.#endpoint === null || this.#isClosed) return false;
    return this.#primaryOf(this.#endpoint.primaryOf(bucket)).isHealthy;
  }

  /** Asks once, never twice. */
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
      // An old question to an endpoint that was replaced says nothing about the new one.
      if (endpoint === this.#endpoint && !isOfOneKey(error)) this.#fail(name, primary, error);
      return wasNotCounted(error) ? 'not_counted' : 'unknown';
    }
  }

  /** What is under way is not waited for: it ends by itself, and leaves nothing open. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#endpoint?.destroy();
  }

  /** A primary that took over, or was never asked: nothing is counted there before it was looked at. */
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
    // At once only the first time: a Redis that comes and goes is left alone.
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

  /** One attempt to make everything whole. Never rejects; answers what stood in the way. */
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
            // Whether one that is well answers is told by what it is asked all the time.
            if (primary.isHealthy && !(error instanceof Unsupported)) return;
            primary.isHealthy = false;
            failures.push(error);
            failedName = name;
            primary.failures += 1;
            // Whoever took the place of the only primary, or serves slots that nobody served, is found by dialing.
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

  /** The old connection serves until the new one answers, and its last questions get their time. */
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

  /** Looks at what is there, then counts one unit: only that proves that counting works. */
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

/** What to do about what does not pass by itself; null: it may pass. */
function remedyOf(error: unknown): string | null {
  if (error instanceof Unsupported) return error.message;
  const reason = reasonOf(error);
  if (NEVER.has(reason)) return `Redis does not let us in (${reason}). Check the user and the password.`;
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

/** A word for the log. Never the message itself, which may repeat what was sent. */
function reasonOf(error: unknown): string {
  if (error instanceof CommandTimeout) return 'timeout';
  if (error instanceof Unsupported) return 'unfit';
  if (error instanceof PantheonError) return error.code;
  if (!isErrorLike(error)) return 'unknown';
  const [word = ''] = error.message.split(' ');
  if (/^[A-Z]{3,}$/.test(word)) return word;
  return codeOf(error) ?? 'connection';
}
