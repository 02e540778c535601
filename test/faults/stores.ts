/**
 * The PostgreSQL and the Redis of a test, and how each node reaches them. To PostgreSQL each has a proxy of its own, so that
 * one node can be cut off while the others are not, and all can be led to another server. To Redis they go straight, and are
 * told of two servers: a limit is decided within milliseconds, which a proxy in this busy process would spend.
 */
import { type FaultProxy, startFaultProxy } from '../../tools/servers/fault-proxy.ts';
import {
  type PostgresServer,
  startPostgres,
  startReplica,
  withClient,
  withDatabase,
} from '../../tools/servers/postgres.ts';
import { inSync, type RedisServer, startRedis } from '../../tools/servers/redis.ts';
import { HeldAnswers, type Question } from './held-answers.ts';
import { sleep } from './load.ts';

const DATABASE = 'pantheon';
/** A new standby has what its primary has within a second or two. */
const STANDBY_MAX_MS = 20_000;
const STANDBY_LOOK_EVERY_MS = 20;

interface Way {
  readonly postgres: FaultProxy;
  readonly answers: HeldAnswers;
}

export class Stores {
  #postgres: PostgresServer;
  #redis: RedisServer;
  /** The other address of Redis: where the next primary will be. */
  #redisStandby: RedisServer;
  readonly #ways: ReadonlyMap<string, Way>;
  /** Those that were failed over from. */
  readonly #former: AsyncDisposable[] = [];

  private constructor(
    postgres: PostgresServer,
    redis: readonly [primary: RedisServer, standby: RedisServer],
    ways: ReadonlyMap<string, Way>,
  ) {
    this.#postgres = postgres;
    [this.#redis, this.#redisStandby] = redis;
    this.#ways = ways;
  }

  static async start(nodeNames: readonly string[]): Promise<Stores> {
    const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    const standby = await startRedis({ replicaOf: redis });
    await postgres.createDatabase(DATABASE);
    const ways = new Map<string, Way>();
    for (const name of nodeNames) {
      const toPostgres = await startFaultProxy(postgres);
      ways.set(name, { postgres: toPostgres, answers: new HeldAnswers(toPostgres) });
    }
    return new Stores(postgres, [redis, standby], ways);
  }

  /** The primary. */
  get postgres(): PostgresServer {
    return this.#postgres;
  }

  /** The primary. */
  get redis(): RedisServer {
    return this.#redis;
  }

  /** Past every proxy. */
  get postgresUrl(): string {
    return withDatabase(this.#postgres.url, DATABASE);
  }

  /** The settings of a node that uses these. */
  environmentOf(nodeName: string): Readonly<Record<string, string>> {
    return {
      PANTHEON_AUTH_DATABASE_URL: this.#way(nodeName).postgres.rewrite(this.postgresUrl),
      PANTHEON_AUTH_REDIS_URL: `${this.#redis.url},${this.#redisStandby.url}`,
    };
  }

  toPostgres(nodeName: string): FaultProxy {
    return this.#way(nodeName).postgres;
  }

  dropNotifications(on: boolean): void {
    for (const { postgres } of this.#ways.values()) postgres.dropPostgresNotifications(on);
  }

  /** Those that were dropped since the start. */
  get droppedNotifications(): number {
    return [...this.#ways.values()].reduce((sum, { postgres }) => sum + postgres.droppedNotifications, 0);
  }

  /** Holds back what PostgreSQL says to one node: everything, or what it answers to one question. @returns the end of it. */
  holdAnswers(nodeName: string, to: Question | 'everything'): () => void {
    const { postgres, answers } = this.#way(nodeName);
    if (to !== 'everything') return answers.hold(to);
    postgres.hold('to-client');
    return () => postgres.release();
  }

  /**
   * A standby takes over from a primary that loses its power, after `outage`. The standby follows synchronously, or the
   * primary would acknowledge what goes down with it; no service can make up for that.
   */
  async failPostgresOver(outage: () => Promise<void>): Promise<void> {
    const primary = this.#postgres;
    const standby = await startReplica(primary);
    this.#former.push(primary);
    this.#postgres = standby;
    await waitForStandby(primary);
    await primary.kill();
    await outage();
    await standby.promote();
    for (const { postgres } of this.#ways.values()) {
      postgres.retarget(standby);
      postgres.cut();
    }
  }

  /** The same with Redis, which follows as it can: what was counted last may be lost. */
  async failRedisOver(outage: () => Promise<void>): Promise<void> {
    const primary = this.#redis;
    const { port } = this.#redisStandby;
    // The primary before this one is dead since the last time; an empty one at its address would be a primary too.
    if (!this.#redisStandby.running) {
      this.#former.push(this.#redisStandby);
      this.#redisStandby = await startRedis({ port, replicaOf: primary });
    }
    // After a restart of the primary it follows again within a moment.
    await inSync(this.#redisStandby);
    [this.#redis, this.#redisStandby] = [this.#redisStandby, primary];
    await primary.kill();
    await outage();
    await this.#redis.promote();
  }

  async close(): Promise<void> {
    for (const { postgres } of this.#ways.values()) await postgres[Symbol.asyncDispose]();
    const servers = [this.#postgres, this.#redis, this.#redisStandby, ...this.#former];
    for (const server of servers) await server[Symbol.asyncDispose]();
  }

  #way(nodeName: string): Way {
    const way = this.#ways.get(nodeName);
    if (way === undefined) throw new Error(`There is no node ${nodeName}.`);
    return way;
  }
}

/** From here on the primary acknowledges nothing that its standby does not have. */
async function waitForStandby(primary: PostgresServer): Promise<void> {
  await withClient(primary.url, async (client) => {
    await client.query("alter system set synchronous_standby_names = '*'");
    await client.query('select pg_reload_conf()');
    const endsAtMs = performance.now() + STANDBY_MAX_MS;
    for (;;) {
      const { rowCount } = await client.query("select 1 from pg_stat_replication where sync_state = 'sync'");
      if (rowCount === 1) return;
      if (performance.now() > endsAtMs) throw new Error('The standby does not follow.');
      await sleep(STANDBY_LOOK_EVERY_MS);
    }
  });
}
