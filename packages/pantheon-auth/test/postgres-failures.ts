/** Faults of PostgreSQL as tests meet them: what a call ends with, trying until it is back, and a failover. */
import { setTimeout as pause } from 'node:timers/promises';
import { type FaultProxy, startFaultProxy } from '../../../tools/servers/fault-proxy.ts';
import { type PostgresServer, startPostgres, startReplica, withClient } from '../../../tools/servers/postgres.ts';
import { PantheonError } from '../src/foundation/errors.ts';
import type { Database } from '../src/storage/database.ts';
import { postgres } from '../src/storage/postgres/postgres.ts';
import { insertTenant, sampleEvent } from '../src/testing/scratch-database.ts';

/** The code of what a call throws; `done` when it throws nothing. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'done';
  } catch (error) {
    return error instanceof PantheonError ? error.code : `not one of ours: ${String(error)}`;
  }
}

/** A change with its event. */
export function commitTenant(db: Database, id: string): Promise<{ readonly seq: number }> {
  return db.ledger.commit({
    changes: [insertTenant({ id, tenant_id: id })],
    events: [sampleEvent({ subjectType: 'tenant', subjectId: id, tenantId: id })],
  });
}

/** Tries until it succeeds: what is away comes back within seconds. */
export async function eventually<T>(work: () => Promise<T>, withinMs = 8_000): Promise<T> {
  const endsAt = performance.now() + withinMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > endsAt) throw error;
      await pause(20);
    }
  }
}

/** A primary behind a proxy, and a replica that can take its place. */
export interface Failover extends AsyncDisposable {
  readonly primary: PostgresServer;
  readonly replica: PostgresServer;
  readonly proxy: FaultProxy;
  /** Through the proxy; past it to the primary; and to the replica. */
  readonly url: string;
  readonly direct: string;
  readonly onNew: string;
  /** The replica has all of it, and takes over. Nobody fences the old primary, and the proxy still leads to it. */
  promote(): Promise<void>;
}

/** Use it with `await using`. */
export async function openFailover(): Promise<Failover> {
  const primary = await startPostgres();
  const direct = await primary.createDatabase();
  await postgres({ url: direct }).migrate();
  const replica = await startReplica(primary);
  const proxy = await startFaultProxy(primary);
  const onNew = direct.replace(`:${primary.port}/`, `:${replica.port}/`);
  const seqOf = (url: string): Promise<unknown> =>
    withClient(url, async (client) => (await client.query('select seq from log_head')).rows[0].seq);
  return {
    primary,
    replica,
    proxy,
    url: proxy.rewrite(direct),
    direct,
    onNew,
    async promote() {
      await eventually(async () => {
        if ((await seqOf(onNew)) !== (await seqOf(direct))) throw new Error('The replica lags behind.');
      });
      await replica.promote();
    },
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await replica[Symbol.asyncDispose]();
      await primary[Symbol.asyncDispose]();
    },
  };
}
