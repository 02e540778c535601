/** Where the tables may lie and what may lie before them: poolers, schemas, addresses. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type PgBouncer, startPgBouncer } from '../../../../../tools/servers/pgbouncer.ts';
import { type PostgresServer, startPostgres, withClient } from '../../../../../tools/servers/postgres.ts';
import { describeWithOwnPostgres } from '../../../../../tools/servers/scratch.ts';
import { codeOf, commitTenant, eventually } from '../../../test/postgres-failures.ts';
import { postgresNode } from '../../../test/postgres-node.ts';
import { systemClock } from '../../foundation/clock.ts';
import { createPantheonAuth, type PantheonAuth } from '../../pantheon-auth.ts';
import { type PostgresOptions, postgres } from './postgres.ts';

describeWithOwnPostgres('PostgreSQL behind a pooler, in a schema, at an odd address', () => {
  let server: PostgresServer;
  const context = { clock: systemClock, onWarning: () => {} };
  const open = (url: string, more: Partial<PostgresOptions> = {}) => postgres({ url, ...more }).open(context);

  beforeAll(async () => {
    server = await startPostgres({ settings: { unix_socket_directories: '/tmp' } });
  }, 60_000);
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  async function through(bouncer: PgBouncer): Promise<{ url: string; direct: string }> {
    const direct = await server.createDatabase();
    return { url: bouncer.rewrite(direct), direct };
  }

  test('PgBouncer that keeps sessions: two nodes create, verify, rotate and revoke through it', async () => {
    await using bouncer = await startPgBouncer(server, 'session', { default_pool_size: '60' });
    const { url, direct } = await through(bouncer);
    await postgres({ url }).migrate();
    const nodes: PantheonAuth[] = [];
    for (let n = 0; n < 2; n += 1)
      nodes.push(await createPantheonAuth({ ...postgresNode(url), database: postgres({ url, poolMax: 8 }) }));
    const [one, other] = nodes as [PantheonAuth, PantheonAuth];
    const { key, apiKey } = await one.keys.create({ userId: 'u', name: 'n' });
    expect(await other.verify({ key })).toMatchObject({ valid: true });
    const rotated = await other.rotation.rotate(apiKey.id, { overlap: '1h' });
    expect(await one.verify({ key: rotated.key })).toMatchObject({ valid: true, key: { version: 2 } });
    await one.keys.revoke(apiKey.id);
    await eventually(async () => expect(await other.verify({ key })).toMatchObject({ denial: { code: 'revoked' } }));

    // What a session is given in its first question is in force behind the pooler too.
    const waiting = await withClient(direct, async (client) => {
      const { rows } = await client.query(
        "select count(*)::int as count from pg_stat_activity where application_name = 'pantheon-auth'",
      );
      return rows[0].count;
    });
    expect(waiting).toBeGreaterThan(2);
    for (const node of nodes) await node.close();
  }, 60_000);

  test('a node that counts alone keeps its lock behind PgBouncer, and is notified of commits', async () => {
    await using bouncer = await startPgBouncer(server, 'session', { default_pool_size: '60' });
    const { url } = await through(bouncer);
    await postgres({ url }).migrate();
    const [one, other] = await Promise.all([open(url), open(url)]);
    let hints = 0;
    other.log.onNotify?.(() => (hints += 1));
    await other.log.head();
    await one.nodes?.join('together');
    await other.nodes?.join('together');
    await commitTenant(one, 'a');
    await eventually(async () => expect(hints).toBeGreaterThan(0));
    expect(other.nodes?.count()).toBe(2);
    await Promise.all([one.close(), other.close()]);
  }, 60_000);

  test.each(['transaction', 'statement'] as const)(
    'PgBouncer that shares sessions by %s is refused, at the start and by migrate, and is named',
    async (mode) => {
      for (const settings of [{}, { server_round_robin: '1' }]) {
        await using bouncer = await startPgBouncer(server, mode, settings);
        const { url, direct } = await through(bouncer);
        const refusal = { code: 'store_unusable', detail: expect.stringContaining('pool_mode = session') };
        await expect(postgres({ url }).migrate()).rejects.toMatchObject(refusal);
        await postgres({ url: direct }).migrate();
        await expect(open(url)).rejects.toMatchObject(refusal);
      }
    },
    60_000,
  );

  test('two installations in two schemas of one database do not see each other', async () => {
    const url = await server.createDatabase();
    const [a, b] = ['product_a', 'product_b'].map((schema) => postgres({ url, schema }));
    if (a === undefined || b === undefined) throw new Error('two');
    await expect(a.open(context)).rejects.toMatchObject({ code: 'schema_too_old' });
    await Promise.all([a.migrate(), a.migrate(), b.migrate(), postgres({ url }).migrate()]);
    const [inA, inB, inPublic] = await Promise.all([a.open(context), b.open(context), open(url)]);
    let hints = 0;
    inB.log.onNotify?.(() => (hints += 1));
    await inB.log.head();
    await commitTenant(inA, 'only-in-a');
    expect(await inA.tenants.find('only-in-a')).toMatchObject({ id: 'only-in-a' });
    expect([await inB.tenants.find('only-in-a'), await inPublic.tenants.find('only-in-a')]).toEqual([null, null]);
    expect((await inB.log.head()).seq).toBe(0);
    // Each is alone where it is.
    for (const db of [inA, inB, inPublic]) await db.nodes?.join('alone');
    await commitTenant(inB, 'only-in-b');
    await eventually(async () => expect(hints).toBe(1));
    await Promise.all([inA, inB, inPublic].map((db) => db.close()));
    const names = await withClient(url, (client) =>
      client.query("select nspname from pg_namespace where nspname like 'product%' order by 1"),
    );
    expect(names.rows.map(({ nspname }) => nspname)).toEqual(['product_a', 'product_b']);
  });

  test('a role that may not create schemas uses an existing one', async () => {
    const url = await server.createDatabase();
    await withClient(url, (client) => client.query('create role guest login; create schema given authorization guest'));
    const asGuest = url.replace('postgres@', 'guest@');
    await postgres({ url: asGuest, schema: 'given' }).migrate();
    await expect(postgres({ url: asGuest, schema: 'missing' }).migrate()).rejects.toMatchObject({
      code: 'store_unusable',
    });
    const db = await open(asGuest, { schema: 'given' });
    await commitTenant(db, 'a');
    await db.close();
  });

  test('a Unix socket works, in both ways to write it', async () => {
    const direct = await server.createDatabase();
    const name = new URL(direct).pathname.slice(1);
    for (const url of [
      `postgres://postgres@/${name}?host=/tmp&port=${server.port}`,
      `postgres:///${name}?host=/tmp&port=${server.port}&user=postgres`,
    ]) {
      await postgres({ url }).migrate();
      const db = await open(url);
      expect(await db.log.head()).toMatchObject({ seq: 0 });
      await db.close();
    }
  });

  test('an error that an operator must correct is not reported as temporary at the start, and says what to do', async () => {
    const url = await server.createDatabase();
    const wrong = [
      [url.replace(server.host, 'no-such-host.invalid'), "Check the host's name"],
      [url.replace('postgres@', 'nobody@'), 'Check the user, the password'],
      [url.replace(/\/pantheon_\w+$/, '/nothing'), "the database's name"],
      [`${url}?sslmode=verify-full`, 'sslmode=disable'],
    ] as const;
    for (const [one, remedy] of wrong) {
      const refused = { code: 'store_unusable', field: 'database.url', detail: expect.stringContaining(remedy) };
      await expect(open(one), remedy).rejects.toMatchObject(refused);
      await expect(postgres({ url: one }).migrate(), remedy).rejects.toMatchObject(refused);
    }
    expect(await codeOf(open(url.replace(`:${server.port}/`, ':1/')))).toBe('store_unavailable');
    const noFile = `${url}?sslmode=verify-full&sslrootcert=/no/such/file`;
    await expect(open(noFile)).rejects.toMatchObject({ code: 'invalid_setting', field: 'url' });
  });

  test('the same error while a node runs is an outage', async () => {
    const url = await server.createDatabase();
    await withClient(url, (client) => client.query('create role leaver login; grant all on schema public to leaver'));
    const asLeaver = url.replace('postgres@', 'leaver@');
    await postgres({ url: asLeaver }).migrate();
    const db = await open(asLeaver, { poolMax: 4 });
    await withClient(url, async (client) => {
      await client.query('alter role leaver nologin');
      await client.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'leaver'");
    });
    await eventually(async () => expect(await codeOf(db.tenants.find('a'))).toBe('store_unavailable'));
    await eventually(async () => expect(await codeOf(db.log.head())).toBe('store_unavailable'));
    await withClient(url, (client) => client.query('alter role leaver login'));
    expect(await eventually(() => db.tenants.find('a'))).toBeNull();
    await db.close();
  });
});
