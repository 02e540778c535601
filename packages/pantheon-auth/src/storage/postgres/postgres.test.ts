/** What only PostgreSQL has: servers that come and go, answers that do not come, and other nodes. */
import { chownSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { generate as generateCertificate } from 'selfsigned';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../../../../../tools/servers/fault-proxy.ts';
import { type PostgresServer, startPostgres, startReplica, withClient } from '../../../../../tools/servers/postgres.ts';
import { describeWithOwnPostgres } from '../../../../../tools/servers/scratch.ts';
import { codeOf, commitTenant, eventually, openFailover } from '../../../test/postgres-failures.ts';
import { systemClock } from '../../foundation/clock.ts';
import type { PantheonError } from '../../foundation/errors.ts';
import { SCHEMA_MIN } from '../migrations/migrations.ts';
import { type PostgresOptions, postgres } from './postgres.ts';
import { PostgresConnection } from './postgres-connection.ts';
import { WAITING_MAX } from './postgres-pool.ts';

describeWithOwnPostgres('on PostgreSQL', () => {
  let server: PostgresServer;
  const warnings: string[] = [];
  const context = { clock: systemClock, onWarning: (warning: string) => void warnings.push(warning) };
  const open = (url: string, more: Partial<PostgresOptions> = {}) => postgres({ url, ...more }).open(context);

  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  /** A migrated database behind a proxy. */
  async function behindProxy(): Promise<{ url: string; direct: string; proxy: FaultProxy } & AsyncDisposable> {
    const direct = await server.createDatabase();
    await postgres({ url: direct }).migrate();
    const proxy = await startFaultProxy(server);
    return { direct, url: proxy.rewrite(direct), proxy, [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose]() };
  }

  test('a start does not change a database without tables, and several processes that migrate at once create them once', async () => {
    const url = await server.createDatabase();
    await expect(open(url)).rejects.toMatchObject({ code: 'schema_too_old' });
    const ran = await Promise.all([1, 2, 3].map(() => postgres({ url }).migrate()));
    expect(ran.flat()).toEqual([
      '0001-tables',
      '0002-second-tables',
      '0003-background-work',
      '0004-signing-keys',
      SCHEMA_MIN,
    ]);
    const db = await open(url);
    expect(await db.log.head()).toMatchObject({ seq: 0, eventId: null });
    await db.close();
    await db.close();
  });

  test('tables of another program in the same database stay unchanged, and ones with our names stop the start', async () => {
    const url = await server.createDatabase();
    await withClient(url, (client) => client.query('create table orders (id int); create schema other'));
    await withClient(url, (client) => client.query('create table other.pantheon_auth_migration (name text)'));
    expect(await postgres({ url }).migrate()).toEqual([
      '0001-tables',
      '0002-second-tables',
      '0003-background-work',
      '0004-signing-keys',
      SCHEMA_MIN,
    ]);
    const taken = await server.createDatabase();
    await withClient(taken, (client) => client.query('create table events (id int)'));
    expect(await codeOf(postgres({ url: taken }).migrate())).toBe('store_unusable');
  });

  test('an unusable database is reported in one line, never with the password', async () => {
    const url = await server.createDatabase();
    const wrong = [
      url.replace(/\/pantheon_\w+$/, '/no_such_database'),
      url.replace('postgres@', 'no_such_role:pass-word-1@'),
      url.replace(/:\d+\//, ':1/').replace('postgres@', 'postgres:pass-word-1@'),
    ];
    const errors = await Promise.all(
      wrong.map((one) =>
        open(one).then(
          () => null,
          (error: unknown) => error,
        ),
      ),
    );
    expect(errors.map((error) => (error as PantheonError).code)).toEqual([
      'store_unusable',
      'store_unusable',
      'store_unavailable',
    ]);
    expect(errors.map((error) => `${(error as Error).stack} ${JSON.stringify(error)}`).join()).not.toContain(
      'pass-word',
    );
    expect(() => postgres({ url: 'mysql://x' })).toThrow(/invalid_setting/);
    // Not percent-encoded: the end of the password would be taken for the name of the database.
    const split = [
      'postgres://me:12/pass-word@host/db',
      'postgres://me:12?pass-word@host/db',
      'postgres://me:12#pass@h/d',
    ];
    for (const one of split)
      expect(() => postgres({ url: one })).toThrow(
        'invalid_setting (url): Write postgres://user@host:port/database, user and password percent-encoded.',
      );
    expect(() => postgres({ url, poolMax: 1 })).toThrow(/invalid_setting/);
  });

  test.each(['LATIN1', 'SQL_ASCII'])(
    'a database whose encoding cannot store every text (%s) is refused with its name, and what to do',
    async (encoding) => {
      const url = new URL(await server.createDatabase());
      const name = `texts_in_${encoding.toLowerCase()}`;
      await withClient(url.href, (client) =>
        client.query(`create database ${name} encoding '${encoding}' lc_collate 'C' lc_ctype 'C' template template0`),
      );
      url.pathname = name;
      for (const attempt of [() => postgres({ url: url.href }).migrate(), () => open(url.href)])
        await expect(attempt()).rejects.toMatchObject({
          code: 'store_unusable',
          field: 'database.url',
          detail: expect.stringMatching(`"${name}" is encoded in ${encoding}, and UTF8 is needed.*encoding 'UTF8'`),
        });
    },
  );

  test('TLS settings of the URL reach the driver: a certificate that it cannot verify is refused', async () => {
    const issue = () =>
      generateCertificate([{ name: 'commonName', value: 'database' }], {
        extensions: [{ name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] }],
      });
    const [served, other] = await Promise.all([issue(), issue()]);
    const own = await startPostgres();
    const { uid, gid } = statSync(own.dataDir);
    const file = (name: string, text: string): string => {
      const path = join(own.dataDir, name);
      writeFileSync(path, text, { mode: 0o600 });
      chownSync(path, uid, gid);
      return path;
    };
    file('server.crt', served.cert);
    file('server.key', served.private);
    await withClient(own.url, async (client) => {
      await client.query('alter system set ssl = on');
      await client.query('select pg_reload_conf()');
    });
    const url = await own.createDatabase();
    const trusting = (name: string, { cert }: { readonly cert: string }): string =>
      `${url}?sslmode=verify-full&sslrootcert=${encodeURIComponent(file(name, cert))}`;
    await eventually(() => postgres({ url: trusting('served.crt', served) }).migrate());
    const db = await open(trusting('served.crt', served));
    const inMemory = await open(url, { ssl: { ca: served.cert } });
    await Promise.all([db.log.head(), db.tenants.find('a'), inMemory.log.head(), inMemory.tenants.find('a')]);
    const connections = await withClient(own.url, (client) =>
      client.query(
        "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'pantheon-auth'",
      ),
    );
    expect(connections.rows).toEqual([{ ssl: true }, { ssl: true }, { ssl: true }, { ssl: true }]);
    expect(await codeOf(open(trusting('other.crt', other)))).toBe('store_unusable');
    await Promise.all([db.close(), inMemory.close()]);
    await own[Symbol.asyncDispose]();
  }, 60_000);

  test('a commit is durable whatever the settings of the role say', async () => {
    const url = await server.createDatabase();
    const client = new Client({ connectionString: url, options: '-c synchronous_commit=off' });
    await client.connect();
    const connection = new PostgresConnection(client, {
      onStatement: null,
      settings: { lock_timeout: '3000' },
      readTimeoutMs: 1_000,
      writeTimeoutMs: 1_000,
      assertServer: () => {},
    });
    await connection.handshake();
    expect((await client.query('show synchronous_commit')).rows).toEqual([{ synchronous_commit: 'on' }]);
    expect((await client.query('show lock_timeout')).rows).toEqual([{ lock_timeout: '3s' }]);
    expect(connection.isFsynced).toBe(true);
    await client.end();
  });

  test('the log is gap-free and refuses every change of what is in it', async () => {
    const url = await server.createDatabase();
    await postgres({ url }).migrate();
    const db = await open(url);
    for (const id of ['a', 'b']) await commitTenant(db, id);
    const attempts = [
      "update events set type = 'x'",
      'delete from events where seq = 2',
      'truncate events',
      "insert into events select 9, 'i', at, tenant_id, type, subject_type, subject_id, body, leaf_random, leaf from events where seq = 1",
    ];
    for (const attempt of attempts)
      await expect(withClient(url, (client) => client.query(attempt))).rejects.toThrow(/append-only/);
    expect((await db.log.noticesFrom(1, 10)).map(({ seq, subjectId }) => [seq, subjectId])).toEqual([
      [1, 'a'],
      [2, 'b'],
    ]);
    await db.close();
  });

  test('other nodes are notified of a commit', async () => {
    const url = await server.createDatabase();
    await postgres({ url }).migrate();
    const [one, other] = await Promise.all([open(url), open(url)]);
    const { promise, resolve } = Promise.withResolvers<void>();
    await other.log.head();
    other.log.onNotify?.(resolve);
    await commitTenant(one, 'a');
    await promise;
    await Promise.all([one.close(), other.close()]);
  });

  test('if the answer to a COMMIT does not arrive, the outcome is reported as unknown', async () => {
    await using behind = await behindProxy();
    const db = await open(behind.url);
    const trap = behind.proxy.holdNextAnswer((bytes) => bytes.includes('commit\0'));
    const committed = codeOf(commitTenant(db, 'a'));
    await trap.caught;
    behind.proxy.cut();
    expect(await committed).toBe('outcome_unknown');
    const after = await open(behind.direct);
    expect(await after.tenants.find('a')).not.toBeNull();
    await db.close();
    await after.close();
  });

  test('a statement that fails inside a transaction leaves nothing behind, and the connection can be used again', async () => {
    const url = await server.createDatabase();
    await postgres({ url }).migrate();
    const db = await open(url, { poolMax: 4 });
    await commitTenant(db, 'a');
    for (let n = 0; n < 8; n += 1) expect(await codeOf(commitTenant(db, 'a'))).toBe('conflict');
    await commitTenant(db, 'b');
    expect(await db.log.head()).toMatchObject({ seq: 2 });
    await db.close();
  });

  test('a read whose answer does not arrive is abandoned after a bounded time, and its connection is never used again', async () => {
    await using behind = await behindProxy();
    const db = await open(behind.url, { poolMax: 4 });
    await commitTenant(db, 'a');
    const trap = behind.proxy.holdNextAnswer((bytes) => bytes.includes('pantheon_auth_') && bytes.includes('ghost'));
    const begunMs = performance.now();
    expect(await codeOf(db.tenants.find('ghost'))).toBe('store_unavailable');
    expect(performance.now() - begunMs).toBeLessThan(2_500);
    trap.release();
    for (let n = 0; n < 8; n += 1) expect(await db.tenants.find('a')).toMatchObject({ id: 'a' });
    expect(await db.tenants.find('ghost')).toBeNull();
    await db.close();
  });

  test('a delayed read of the head does not delay the next one', async () => {
    await using behind = await behindProxy();
    const db = await open(behind.url);
    await db.log.head();
    const trap = behind.proxy.holdNextAnswer((bytes) => bytes.includes('pantheon_auth_'));
    expect(await codeOf(db.log.head())).toBe('store_unavailable');
    expect(await db.log.head()).toMatchObject({ seq: 0 });
    trap.release();
    await db.close();
  });

  test('after the event loop was blocked, an answer that has arrived is not taken for a late one', async () => {
    const url = await server.createDatabase();
    await postgres({ url }).migrate();
    const db = await open(url);
    await db.log.head();
    await db.tenants.find('a');
    const reads = [db.log.head(), db.tenants.find('a')];
    // The questions are on their way when it stops.
    await pause(0);
    const standsUntilMs = performance.now() + 1_600;
    while (performance.now() < standsUntilMs);
    expect((await Promise.allSettled(reads)).map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
    await db.close();
  });

  test('statements beyond the number that may wait are refused at once', async () => {
    await using behind = await behindProxy();
    const db = await open(behind.url, { poolMax: 4 });
    await db.tenants.find('a');
    behind.proxy.hold();
    const reads = Array.from({ length: WAITING_MAX + 50 }, () => codeOf(db.tenants.find('a')));
    const codes = await Promise.all(reads);
    expect(codes.filter((code) => code === 'overloaded').length).toBeGreaterThanOrEqual(40);
    expect(new Set(codes)).toEqual(new Set(['overloaded', 'store_unavailable']));
    behind.proxy.release();
    expect(await eventually(() => db.tenants.find('a'))).toBeNull();
    await db.close();
  });

  test('an invalid number is reported as damage or read exactly, and the connection can be used again', async () => {
    const url = await server.createDatabase();
    await postgres({ url }).migrate();
    const db = await open(url);
    await commitTenant(db, 'a');
    await withClient(url, (client) =>
      client.query('update tenants set created_at = 9223372036854775807; update log_head set at = 9223372036854775807'),
    );
    expect(await codeOf(db.log.head())).toBe('key_quarantined');
    expect(await db.tenants.find('a')).toMatchObject({ created_at: 9223372036854775807n });
    await db.close();
  });

  test('tables that change under a running node cause one error at most', async () => {
    const url = await server.createDatabase();
    await postgres({ url }).migrate();
    const db = await open(url, { poolMax: 4 });
    await commitTenant(db, 'a');
    await db.tenants.find('a');
    await withClient(url, (client) => client.query('alter table tenants add column later text'));
    const codes = [await codeOf(db.tenants.find('a')), await codeOf(db.tenants.find('a'))];
    expect(codes.at(-1)).toBe('done');
    await db.close();
  });

  test('the node lock is taken again when the session had to be opened again', async () => {
    await using behind = await behindProxy();
    const db = await open(behind.url);
    await db.nodes?.join('alone');
    behind.proxy.cut();
    await eventually(() => db.log.head());
    const other = await open(behind.direct);
    expect(await codeOf(other.nodes?.join('together') ?? Promise.resolve())).toBe('redis_required');
    await db.close();
    await other.close();
  });

  test('a node continues by itself after a restart of the server', async () => {
    const own = await startPostgres();
    const url = await own.createDatabase();
    await postgres({ url }).migrate();
    const db = await open(url);
    await commitTenant(db, 'a');
    await own.kill();
    expect(await codeOf(db.tenants.find('a'))).toBe('store_unavailable');
    expect(await codeOf(db.log.head())).toBe('store_unavailable');
    await own.restart();
    expect(await eventually(() => db.tenants.find('a'))).toMatchObject({ id: 'a' });
    await eventually(() => commitTenant(db, 'b'));
    expect(await eventually(() => db.log.head())).toMatchObject({ seq: 2 });
    await db.close();
    await own[Symbol.asyncDispose]();
  }, 60_000);

  test('a standby is refused', async () => {
    const primary = await startPostgres();
    const replica = await startReplica(primary);
    const url = await primary.createDatabase();
    await postgres({ url }).migrate();
    const onReplica = url.replace(`:${primary.port}/`, `:${replica.port}/`);
    await eventually(async () => {
      expect(await codeOf(open(onReplica))).toBe('store_read_only');
    });
    await replica[Symbol.asyncDispose]();
    await primary[Symbol.asyncDispose]();
  }, 60_000);

  test('after a failover nothing is read from the old server, though its connections still answer', async () => {
    await using failover = await openFailover();
    const db = await open(failover.url, { poolMax: 4 });
    await commitTenant(db, 'a');
    // Connections of the pool that stay open to the old server.
    await Promise.all(Array.from({ length: 12 }, () => db.tenants.find('a')));
    await failover.promote();
    failover.proxy.retarget(failover.replica.port);
    const onNew = await eventually(() => open(failover.onNew));
    await commitTenant(onNew, 'b');
    // Only the connection on which the log is followed breaks; it is opened again and leads to the new server.
    failover.proxy.holdOne(0);
    expect(await codeOf(db.log.head())).toBe('store_unavailable');
    expect(await eventually(() => db.log.head())).toMatchObject({ seq: 2 });
    for (let n = 0; n < 12; n += 1) expect(await eventually(() => db.tenants.find('b'))).toMatchObject({ id: 'b' });
    await Promise.all([db.close(), onNew.close()]);
  }, 60_000);

  test('a new connection that reaches another server moves the whole node there', async () => {
    await using failover = await openFailover();
    const db = await open(failover.url, { poolMax: 4 });
    await db.log.head();
    await failover.promote();
    failover.proxy.retarget(failover.replica.port);
    const onNew = await eventually(() => open(failover.onNew));
    await commitTenant(onNew, 'b');
    // More at once than it has connections.
    await Promise.allSettled(Array.from({ length: 4 }, () => db.tenants.find('b')));
    await eventually(async () => expect(await db.tenants.find('b')).toMatchObject({ id: 'b' }));
    expect(await eventually(() => db.log.head())).toMatchObject({ seq: 1 });
    await Promise.all([db.close(), onNew.close()]);
  }, 60_000);
});
