/** Nodes that count limits by themselves on one PostgreSQL: how many there may be, and what each knows of the other. */
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { expect, test } from 'vitest';
import { codeOf, eventually } from '../../../test/postgres-failures.ts';
import { type PostgresScratch, scratchPostgres } from '../../../test/postgres-scratch.ts';
import { systemClock } from '../../foundation/clock.ts';
import { TestClock } from '../../testing/test-clock.ts';
import type { Database, NodeRegistry } from '../database.ts';
import { postgres } from './postgres.ts';
import { HANDOVER_MAX_MS } from './postgres-nodes.ts';

interface Node extends AsyncDisposable {
  readonly db: Database;
  readonly nodes: NodeRegistry;
  readonly warnings: string[];
}

async function open({ url }: PostgresScratch, clock = systemClock, onStatement?: (sql: string) => void): Promise<Node> {
  const warnings: string[] = [];
  const source = postgres({ url, ...(onStatement && { onStatement }) });
  const db = await source.open({ clock, onWarning: (warning) => void warnings.push(warning) });
  if (db.nodes === null) throw new Error('PostgreSQL has nodes');
  return { db, nodes: db.nodes, warnings, [Symbol.asyncDispose]: () => db.close() };
}

/** What a node that counts so would be told now. */
async function outcomeFor(scratch: PostgresScratch, counting: 'together' | 'alone'): Promise<string> {
  await using node = await open(scratch);
  return await codeOf(node.nodes.join(counting));
}

const until = (assertion: () => void): Promise<void> => eventually(async () => assertion());

/** Sessions that hold a place, the first place first. */
async function sessionsWithPlaces(scratch: PostgresScratch): Promise<number[]> {
  const rows =
    await scratch.sql(`select pid from pg_locks where locktype = 'advisory' and objsubid = 2 and objid in (2, 3)
    and database = (select oid from pg_database where datname = current_database()) order by objid`);
  return rows.map(({ pid }) => Number(pid));
}

async function endSessions(scratch: PostgresScratch, pids: readonly number[]): Promise<void> {
  for (const pid of pids) await scratch.sql('select pg_terminate_backend(?)', pid);
}

/** Takes a place as another node would, by waiting for it. */
class Taker implements AsyncDisposable {
  readonly #scratch: PostgresScratch;
  readonly #client: Client;
  taken: Promise<unknown> = Promise.resolve();

  constructor(scratch: PostgresScratch) {
    this.#scratch = scratch;
    this.#client = new Client({ connectionString: scratch.url });
  }

  async waitForPlaceOf(pid: number): Promise<void> {
    await this.#client.connect();
    const [place] = await this.#scratch.sql(
      "select classid::int8 as class, objid::int8 as object from pg_locks where locktype = 'advisory' and pid = ?",
      pid,
    );
    // The first number is signed where it is given, and not where it is shown.
    const lock = [Number(place?.['class']) | 0, place?.['object']];
    this.taken = this.#client.query('select pg_advisory_lock($1, $2)', lock);
    await eventually(async () => {
      const waiting = await this.#scratch.sql("select from pg_locks where locktype = 'advisory' and not granted");
      expect(waiting).toHaveLength(1);
    });
  }

  end(): Promise<void> {
    return this.#client.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

test('beside a node that counts alone one other may start, and no third of any kind; each knows the number of nodes', async () => {
  await using scratch = await scratchPostgres('started');
  await using successor = await open(scratch);
  await using old = await open(scratch);
  await old.nodes.join('alone');
  expect(old.nodes.count()).toBe(1);
  await successor.nodes.join('alone');
  // Not later than the start of the other: until then the other admits nothing.
  expect([old.nodes.count(), successor.nodes.count()]).toEqual([2, 2]);
  for (const counting of ['alone', 'together'] as const)
    expect(await outcomeFor(scratch, counting)).toBe('redis_required');
  await old.db.close();
  await until(() => expect(successor.nodes.count()).toBe(1));
  expect(await outcomeFor(scratch, 'together')).toBe('redis_required');
  // The next update.
  await using next = await open(scratch);
  await next.nodes.join('alone');
  expect([successor.nodes.count(), next.nodes.count()]).toEqual([2, 2]);
});

test('while nodes that count together run, none that counts alone may start', async () => {
  await using scratch = await scratchPostgres('started');
  await using one = await open(scratch);
  await using two = await open(scratch);
  await using three = await open(scratch);
  for (const { nodes } of [one, two, three]) await nodes.join('together');
  expect(three.nodes.count()).toBe(3);
  expect(await outcomeFor(scratch, 'alone')).toBe('redis_required');
  await one.db.close();
  await two.db.close();
  expect(await outcomeFor(scratch, 'alone')).toBe('redis_required');
  await three.db.close();
  await eventually(async () => expect(await outcomeFor(scratch, 'alone')).toBe('done'));
});

test('a node that counts together and is refused beside one that counts alone takes no lock by trying', async () => {
  await using scratch = await scratchPostgres('started');
  await using old = await open(scratch);
  await using successor = await open(scratch);
  await using first = await open(scratch);
  await first.nodes.join('alone');
  await old.nodes.join('alone');
  await first.db.close();
  await until(() => expect(old.nodes.count()).toBe(1));
  // The one that is left holds the second place; whoever tries to share gets the first one, and gives it back.
  await using refused = await open(scratch);
  expect(await codeOf(refused.nodes.join('together'))).toBe('redis_required');
  expect(await codeOf(successor.nodes.join('alone'))).toBe('done');
});

test('a lost session is opened again with its node lock and its node count, in each role', async () => {
  await using scratch = await scratchPostgres('started');
  await using old = await open(scratch);
  await old.nodes.join('alone');
  await endSessions(scratch, await sessionsWithPlaces(scratch));
  await eventually(() => old.db.log.head());
  expect(await sessionsWithPlaces(scratch)).toHaveLength(1);
  expect(old.nodes.count()).toBe(1);

  await using successor = await open(scratch);
  await successor.nodes.join('alone');
  for (const round of [1, 2, 3]) {
    const places = await sessionsWithPlaces(scratch);
    // The old one, the new one, both.
    const lost = round === 3 ? places : places.slice(round - 1, round);
    await endSessions(scratch, lost);
    await eventually(() => Promise.all([old.db.log.head(), successor.db.log.head()]));
    expect(await sessionsWithPlaces(scratch)).toHaveLength(2);
    await until(() => expect([old.nodes.count(), successor.nodes.count()]).toEqual([2, 2]));
    expect(await outcomeFor(scratch, 'alone')).toBe('redis_required');
  }
  expect([...old.warnings, ...successor.warnings]).toEqual([]);
}, 60_000);

test('a node whose lock was taken while it was disconnected divides by all nodes, says so, and gets the next free lock', async () => {
  await using scratch = await scratchPostgres('started');
  await using one = await open(scratch);
  await one.nodes.join('alone');
  await using other = await open(scratch);
  await other.nodes.join('alone');
  // Another process waits for the place, so it has it before the one that lost it is back.
  const [session = 0] = await sessionsWithPlaces(scratch);
  await using taker = new Taker(scratch);
  await taker.waitForPlaceOf(session);
  await endSessions(scratch, [session]);
  await taker.taken;
  await eventually(() => one.db.log.head());
  expect(one.nodes.count()).toBe(3);
  expect(one.warnings).toEqual([expect.stringContaining('lost its place')]);
  await other.db.close();
  await until(() => expect(one.nodes.count()).toBe(2));
  expect(await outcomeFor(scratch, 'alone')).toBe('redis_required');
  await taker.end();
  await until(() => expect(one.nodes.count()).toBe(1));
  expect(await outcomeFor(scratch, 'alone')).toBe('done');
}, 60_000);

test('the answer that there is no other node is used for three seconds; a node that cannot ask takes half from then on', async () => {
  await using scratch = await scratchPostgres('started');
  const clock = new TestClock();
  await using node = await open(scratch, clock);
  await node.nodes.join('alone');
  clock.advance(3_000);
  expect(node.nodes.count()).toBe(1);
  clock.advance(1);
  expect(node.nodes.count()).toBe(2);
  await until(() => expect(node.nodes.count()).toBe(1));
});

test('two nodes that run beside each other for a quarter of an hour are logged by each, every quarter of an hour', async () => {
  await using scratch = await scratchPostgres('started');
  const clock = new TestClock();
  await using old = await open(scratch, clock);
  await using successor = await open(scratch, clock);
  await old.nodes.join('alone');
  await successor.nodes.join('alone');
  clock.advance(HANDOVER_MAX_MS - 60_000);
  await pause(2_500);
  expect([...old.warnings, ...successor.warnings]).toEqual([]);
  for (const times of [1, 2, 3]) {
    clock.advance(HANDOVER_MAX_MS);
    await until(() => {
      for (const { warnings } of [old, successor]) expect(warnings).toHaveLength(times);
    });
  }
  expect(old.warnings[0]).toMatch(/^2 nodes have counted limits by themselves .* more than 15 minutes: .* same Redis$/);
}, 60_000);

test('the server ends the session of a node whose machine vanished within half a minute', async () => {
  await using scratch = await scratchPostgres('started');
  const asked: string[] = [];
  await using node = await open(scratch, systemClock, (sql) => asked.push(sql));
  await node.nodes.join('alone');
  const handshake = asked.find((sql) => sql.includes('tcp_keepalives_idle')) ?? '';
  const value = (name: string): number => Number(new RegExp(`'${name}', '(\\d+)'`).exec(handshake)?.[1]);
  const silentSeconds = value('tcp_keepalives_idle') + value('tcp_keepalives_interval') * value('tcp_keepalives_count');
  expect(silentSeconds).toBeLessThan(30);
  expect(value('tcp_user_timeout')).toBeLessThan(30_000);
});
