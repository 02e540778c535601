/** Promises of many nodes on PostgreSQL, each under the fault that broke it. */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../../../../../tools/servers/fault-proxy.ts';
import { type PostgresServer, startPostgres, withClient } from '../../../../../tools/servers/postgres.ts';
import { describeWithOwnPostgres } from '../../../../../tools/servers/scratch.ts';
import { codeOf, commitTenant, eventually, openFailover } from '../../../test/postgres-failures.ts';
import type { APIKey } from '../../api-keys/api-key.ts';
import type { Caller } from '../../domain/key-policy.ts';
import { type Clock, systemClock } from '../../foundation/clock.ts';
import type { PantheonError } from '../../foundation/errors.ts';
import { createPantheonAuth, type PantheonAuth } from '../../pantheon-auth.ts';
import { type PostgresOptions, postgres } from './postgres.ts';

const MASTER_KEY = randomBytes(32).toString('hex');
const ISSUER = 'https://auth.example.com';

function node(url: string, clock: Clock = systemClock): Promise<PantheonAuth> {
  const database = postgres({ url });
  return createPantheonAuth({ database, limits: 'local', masterKey: MASTER_KEY, issuer: ISSUER, clock });
}

/** A caller that holds this key. */
function holderOf({ id: keyId, createdAt }: APIKey, permissions: readonly string[] = []): Caller {
  return {
    authority: {
      kind: 'key',
      keyId,
      version: 1,
      tenantId: 'default',
      via: 'api_key',
      secretMadeAt: createdAt.getTime(),
      permissions,
      grantable: [],
      expiresAt: null,
      ipAllowlist: [],
    },
    auditContext: {
      actor: { keyId, userId: 'user-1', address: null, userAgent: null },
      requestId: null,
      reason: null,
    },
  };
}

/** Where the log is followed is the connection whose last statement asked for the head. */
const endSession = (direct: string): Promise<unknown> =>
  withClient(direct, (client) =>
    client.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like \'%"log_head" as "h"%\' and pid <> pg_backend_pid()',
    ),
  );

describeWithOwnPostgres('on PostgreSQL, when things go wrong', () => {
  let server: PostgresServer;
  const context = { clock: systemClock, onWarning: () => {} };
  const open = (url: string, more: Partial<PostgresOptions> = {}) => postgres({ url, ...more }).open(context);

  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  async function migrated(): Promise<string> {
    const url = await server.createDatabase();
    await postgres({ url }).migrate();
    return url;
  }

  /** A migrated database behind a proxy. */
  async function behindProxy(): Promise<{ url: string; direct: string; proxy: FaultProxy } & AsyncDisposable> {
    const direct = await migrated();
    const proxy = await startFaultProxy(server);
    return { direct, url: proxy.rewrite(direct), proxy, [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose]() };
  }

  test('I4: the node that answered a revocation accepts nothing stale, also if another node had made it a moment ago', async () => {
    await using behind = await behindProxy();
    const here = await node(behind.url);
    const there = await node(behind.direct);
    const { key, apiKey } = await here.keys.create({ userId: 'user-1', name: 'k' });
    await here.ping();
    expect((await here.verify({ key })).valid).toBe(true);
    // This node does not hear of the other one for a moment, well within what it may.
    const held = behind.proxy.holdOne(0);
    await there.keys.revoke(apiKey.id);
    await here.keys.revoke(apiKey.id);
    const after = await here.verify({ key });
    held.release();
    expect(after.valid).toBe(false);
    await Promise.all([here.close(), there.close()]);
  });

  test('I4: nor for a tenant that another node suspended a moment ago', async () => {
    await using behind = await behindProxy();
    const here = await node(behind.url);
    const there = await node(behind.direct);
    const { key } = await here.keys.create({ userId: 'user-1', name: 'k' });
    await here.ping();
    expect((await here.verify({ key })).valid).toBe(true);
    const held = behind.proxy.holdOne(0);
    await there.tenants.suspend('default');
    await here.tenants.suspend('default');
    // A no has to be confirmed (I5), so it may be a 503 while nothing can be. It may not be a yes.
    const after = await here.verify({ key }).then(
      ({ valid }) => valid,
      (error: PantheonError) => error.code,
    );
    held.release();
    expect([false, 'store_unavailable']).toContain(after);
    await Promise.all([here.close(), there.close()]);
  });

  test('I4: a node whose LISTEN is not answered reads the head again within seconds', async () => {
    await using behind = await behindProxy();
    const db = await open(behind.url);
    await db.log.head();
    const trap = behind.proxy.holdNextAnswer((bytes) => bytes.includes('listen '));
    behind.proxy.cut();
    const heads = eventually(() => db.log.head(), 7_000).then(() => 'answered');
    await trap.caught;
    expect(await Promise.race([heads, pause(7_000).then(() => 'hangs')])).toBe('answered');
    trap.release();
    await db.close();
  });

  test('I4: an abandoned session does not lead statements back to the server it was opened on', async () => {
    await using failover = await openFailover();
    const { proxy } = failover;
    const db = await open(failover.url, { poolMax: 4 });
    await db.log.head();
    await commitTenant(db, 'a');
    await db.tenants.find('a');
    await failover.promote();
    const onNew = await open(failover.onNew);
    await commitTenant(onNew, 'b');
    // The name wavers. A connection of the pool leads to the new server, so the session is opened again, and leads to the
    // old one once more, slowly.
    const handshake = proxy.holdNextAnswer((bytes) => bytes.includes('pg_postmaster_start_time'));
    proxy.retarget(failover.replica.port);
    const first = Promise.allSettled([db.tenants.find('a'), db.tenants.find('a')]);
    await handshake.caught;
    proxy.retarget(failover.primary.port);
    const listening = proxy.holdNextAnswer((bytes) => bytes.includes('listen '));
    handshake.release();
    await listening.caught;
    await first;
    // Now the name leads to the new server for good: the session is opened anew and the log is followed there.
    proxy.retarget(failover.replica.port);
    await Promise.allSettled([db.tenants.find('a'), db.tenants.find('a')]);
    expect(await eventually(() => db.log.head())).toMatchObject({ seq: 2 });
    listening.release();
    await pause(100);
    expect(await db.log.head()).toMatchObject({ seq: 2 });
    // Who knows the head at 2 must not read what was before it.
    expect(await eventually(() => db.tenants.find('b'))).toMatchObject({ id: 'b' });
    await Promise.all([db.close(), onNew.close()]);
  }, 60_000);

  test('I4: nothing stays in memory of a change that a failover lost', async () => {
    await using failover = await openFailover();
    const auth = await node(failover.url);
    const { key, apiKey } = await auth.keys.create({ userId: 'user-1', name: 'k' });
    await auth.keys.suspend(apiKey.id);
    await auth.ping();
    await failover.promote();
    // The old primary takes one more change, which the new one will never have, and is gone.
    failover.proxy.holdOne(0);
    await auth.keys.resume(apiKey.id);
    expect((await auth.verify({ key })).valid).toBe(true);
    failover.proxy.retarget(failover.replica.port);
    await failover.primary.kill();
    await eventually(() => auth.ping());
    await pause(2_000);
    const after = await eventually(() => auth.verify({ key }));
    expect(after).toMatchObject({ valid: false, denial: { code: 'suspended' } });
    await auth.close();
  }, 60_000);

  test('I13: a commit that was answered by a server this node has left is not acknowledged', async () => {
    await using failover = await openFailover();
    const { proxy } = failover;
    const db = await open(failover.url, { poolMax: 4 });
    await db.log.head();
    await commitTenant(db, 'a');
    await failover.promote();
    const trap = proxy.holdNextAnswer((bytes) => bytes.includes('commit\0'));
    const committed = codeOf(commitTenant(db, 'c'));
    await trap.caught;
    proxy.retarget(failover.replica.port);
    await endSession(failover.direct);
    expect(await eventually(() => db.log.head())).toMatchObject({ seq: 1 });
    trap.release();
    expect(await committed).toBe('outcome_unknown');
    expect(await eventually(() => db.tenants.find('c'))).toBeNull();
    await db.close();
  }, 60_000);

  test('I13: a COMMIT whose wait for the standby was broken off is not acknowledged', async () => {
    const own = await startPostgres();
    const url = await own.createDatabase();
    await postgres({ url }).migrate();
    const db = await open(url);
    await withClient(url, async (client) => {
      await client.query("alter system set synchronous_standby_names = 'standby'");
      await client.query('select pg_reload_conf()');
    });
    await pause(500);
    const committed = codeOf(commitTenant(db, 'a'));
    await pause(500);
    // What an operator does, or a statement timeout.
    await withClient(url, (client) =>
      client.query("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"),
    );
    expect(await committed).toBe('outcome_unknown');
    await db.close();
    await own[Symbol.asyncDispose]();
  }, 60_000);

  test('a key that makes changes all the time can still be revoked', async () => {
    const url = await migrated();
    const [here, there] = await Promise.all([node(url), node(url)]);
    const { apiKey } = await here.keys.create({
      userId: 'user-1',
      name: 'k',
      permissions: ['pantheon:keys:create'],
    });
    const { apiKey: other } = await here.keys.create({ userId: 'user-2', name: 'other' });
    const by = holderOf(apiKey, ['pantheon:keys:create']);
    let isOver = false;
    const lanes = Array.from({ length: 24 }, async () => {
      while (!isOver) {
        const code = await codeOf(here.keys.create({ userId: 'u', name: 'n' }, { by }));
        isOver ||= code === 'revoked';
      }
    });
    await pause(1_000);
    // Others are not held up: it is not the load.
    expect(await codeOf(there.keys.revoke(other.id))).toBe('done');
    const begunMs = performance.now();
    const outcome = await codeOf(there.keys.revoke(apiKey.id));
    const tookMs = performance.now() - begunMs;
    isOver = true;
    await Promise.all(lanes);
    expect({ outcome, isQuick: tookMs < 1_000 }).toEqual({ outcome: 'done', isQuick: true });
    await Promise.all([here.close(), there.close()]);
  }, 60_000);

  test('a node that counts limits alone ends its old session, which ended without the server noticing, and has one node lock', async () => {
    await using behind = await behindProxy();
    const db = await open(behind.url);
    await db.nodes?.join('alone');
    const held = behind.proxy.holdOne(0);
    expect(await codeOf(db.log.head())).toBe('store_unavailable');
    await eventually(() => db.log.head());
    // Its own session of before is not another node, and leaves room for a successor.
    expect(db.nodes?.count()).toBe(1);
    const [successor, third] = [await open(behind.direct), await open(behind.direct)];
    await successor.nodes?.join('alone');
    expect([db.nodes?.count(), successor.nodes?.count()]).toEqual([2, 2]);
    // Minutes later the network lets through what was on its way.
    held.release();
    await pause(3_000);
    expect(await codeOf(third.nodes?.join('alone') ?? Promise.resolve())).toBe('redis_required');
    expect([db.nodes?.count(), successor.nodes?.count()]).toEqual([2, 2]);
    await Promise.all([db.close(), successor.close(), third.close()]);
  }, 60_000);

  test('I7, I14: all tokens that a key has so far are refused after revoking them, though the issuing node is seconds ahead', async () => {
    const url = await migrated();
    const ahead: Clock = { now: () => Date.now() + 4_000, monotonicMs: () => performance.now() };
    const here = await node(url);
    const issuing = await node(url, ahead);
    const { key, apiKey } = await here.keys.create({ userId: 'user-1', name: 'k' });
    const exchanged = await issuing.tokens.exchange({ key });
    const token = exchanged.issued ? exchanged.token.token : '';
    await here.tokens.revokeAllOf({ tenantId: 'default', keyId: apiKey.id });
    await Promise.all([here.ping(), issuing.ping()]);
    const verdicts = await Promise.all([here, issuing].map((one) => one.tokens.verify({ token })));
    expect(verdicts.map(({ valid }) => valid)).toEqual([false, false]);
    await Promise.all([here.close(), issuing.close()]);
  }, 60_000);

  test('two nodes that retire the last signing keys at once leave one that signs', async () => {
    const url = await migrated();
    const one = await node(url);
    const two = await node(url);
    const { key } = await one.keys.create({ userId: 'user-1', name: 'k' });
    await one.tokens.rotateSigningKey('ES256');
    await Promise.all([one.ping(), two.ping()]);
    const kids = one.tokens
      .jwks()
      .keys.filter((jwk) => jwk['alg'] === 'ES256')
      .map((jwk) => String(jwk['kid']));
    expect(kids.length).toBeGreaterThan(1);
    await Promise.all(kids.map((kid, nth) => (nth % 2 === 0 ? one : two).tokens.retireSigningKey(kid)));
    await Promise.all([one.ping(), two.ping()]);
    expect(await codeOf(one.tokens.exchange({ key }))).toBe('done');
    await Promise.all([one.close(), two.close()]);
  }, 60_000);

  test('a node that was stopped inside a transaction answers with one of our codes', async () => {
    const url = await migrated();
    let isStalling = true;
    const onStatement = (sql: string): void => {
      if (!isStalling || !sql.includes('update log_head')) return;
      isStalling = false;
      const untilMs = performance.now() + 5_600;
      while (performance.now() < untilMs);
    };
    const db = await open(url, { onStatement });
    expect(['store_unavailable', 'outcome_unknown']).toContain(await codeOf(commitTenant(db, 'a')));
    expect(await codeOf(commitTenant(db, 'b'))).toBe('done');
    await db.close();
  }, 60_000);
});
