/** A private PostgreSQL does what fault tests ask of it, and keeps what it acknowledged. */
import { existsSync } from 'node:fs';
import { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type PostgresServer, startPostgres, startReplica, withClient } from './postgres.ts';
import { descendantsOf, isRunning, readProcess } from './process-tree.ts';
import { describeWithOwnPostgres } from './scratch.ts';
import { until } from './server-process.ts';

/** For what must come; a busy machine needs some of it. */
const PATIENCE_MS = 20_000;

async function notesOf(url: string): Promise<readonly string[]> {
  const rows = await withClient(url, (client) =>
    client.query<{ note: string }>('select note from notes order by note'),
  );
  return rows.rows.map(({ note }) => note);
}

async function note(url: string, text: string): Promise<void> {
  await withClient(url, (client) => client.query('insert into notes values ($1)', [text]));
}

async function startWithNotes(): Promise<PostgresServer> {
  const server = await startPostgres({ settings: { work_mem: '5MB' } });
  await withClient(server.url, (client) => client.query('create table notes (note text)'));
  return server;
}

describeWithOwnPostgres('a private PostgreSQL', () => {
  let server: PostgresServer;

  beforeAll(async () => {
    server = await startWithNotes();
  });

  afterAll(async () => await server[Symbol.asyncDispose]());

  test('has its own settings, UTF-8, and databases on demand', async () => {
    const url = await server.createDatabase();
    const { rows } = await withClient(url, (client) =>
      client.query(
        `select current_setting('work_mem') as work_mem, current_setting('fsync') as fsync, current_database() as name,
           current_setting('server_encoding') as encoding, 'a' < 'B' as by_language`,
      ),
    );
    const name = new URL(url).pathname.slice(1);
    expect(rows).toEqual([{ work_mem: '5MB', fsync: 'on', name, encoding: 'UTF8', by_language: false }]);
  });

  test('keeps committed data when it is killed or stopped, and is removed when disposed of, also while paused', async () => {
    const mortal = await startWithNotes();
    const { url, pid } = mortal;
    const backends = descendantsOf(pid);
    expect(backends.length).toBeGreaterThan(0);
    await note(url, 'before the kill');
    await mortal.kill();
    expect([pid, ...backends].filter(isRunning)).toEqual([]);
    await expect(notesOf(url)).rejects.toThrow('ECONNREFUSED');
    expect(() => mortal.pid).toThrow('not running');
    await mortal.restart();
    await note(url, 'before the stop');
    await mortal.stop();
    expect(mortal.running).toBe(false);
    await mortal.restart();
    expect(mortal.url).toBe(url);
    expect(await notesOf(url)).toEqual(['before the kill', 'before the stop']);

    await mortal.pause();
    const last = mortal.pid;
    await mortal[Symbol.asyncDispose]();
    expect([isRunning(last), existsSync(mortal.dataDir)]).toEqual([false, false]);
  });

  test('answers no client while it is paused, also on an existing connection', async () => {
    const client = new Client({ connectionString: server.url });
    await client.connect();
    await server.pause();
    let answered = false;
    const answer = client.query('select 1').then(() => {
      answered = true;
    });
    const all = [server.pid, ...descendantsOf(server.pid)];
    expect(all.length).toBeGreaterThan(1);
    expect(new Set(all.map((pid) => readProcess(pid)?.state))).toEqual(new Set(['T']));
    expect(answered).toBe(false);
    server.resume();
    await answer;
    await client.end();
  });

  test('has a replica that follows it, and accepts writes once promoted', async () => {
    await using primary = await startWithNotes();
    await using replica = await startReplica(primary);
    await note(primary.url, 'replicated');
    expect(await until(async () => (await notesOf(replica.url)).length === 1, PATIENCE_MS)).toBe(true);
    await expect(note(replica.url, 'too early')).rejects.toThrow('read-only');
    await primary.kill();
    await replica.promote();
    await note(replica.url, 'promoted');
    expect(await notesOf(replica.url)).toEqual(['promoted', 'replicated']);
  });

  test('says why it does not start', async () => {
    await expect(startPostgres({ settings: { no_such_setting: '1' } })).rejects.toThrow('no_such_setting');
    await expect(startPostgres({ port: server.port })).rejects.toThrow('Address already in use');
  });
});
