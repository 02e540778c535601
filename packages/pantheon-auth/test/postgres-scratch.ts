/**
 * A PostgreSQL database for one test. Making one takes longer than most tests run, so test processes share a few: each is
 * claimed by an advisory lock, which ends with its process, and is put back to its first state when it is claimed.
 */
import { Client, types } from 'pg';
import { afterAll, inject } from 'vitest';
// For the names that it provides.
import type {} from '../../../tools/servers/vitest-setup.ts';
import type { PostgresTemplate } from './postgres-template.ts';

/** A claimed database. */
export interface PostgresScratch extends AsyncDisposable {
  readonly url: string;
  /** Runs a statement past every node. `?` stands for a value, `?1` for the first. */
  sql(text: string, ...values: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** All that our tables hold, as text in which ASCII can be searched. */
  stored(): Promise<string>;
}

/** Empty tables, or an instance that has been started once. */
export type FirstState = 'empty' | 'started';

/** Claims a database. Use it with `await using`. */
export async function scratchPostgres(state: FirstState): Promise<PostgresScratch> {
  const template = inject('postgresTemplate');
  if (template === null) throw new Error('There is no PostgreSQL.');
  const server = await administrator();
  const slot = await claimSlot(server, template);
  const name = `${template.name}_${slot}`;
  await makeDatabase(server, name, template.name);
  const url = urlOf(name);
  const client = await connect(url);
  await reset(client, state);
  return {
    url,
    async sql(text, ...values) {
      let place = 0;
      const numbered = text.replaceAll(/\?(\d*)/g, (_mark, number: string) => `$${number || ++place}`);
      const { rows } = await client.query<Record<string, unknown>>(numbered, [...values]);
      return rows;
    },
    async stored() {
      const parts: string[] = [];
      for (const table of [...TABLES, 'log_head']) {
        const { rows } = await client.query<Record<string, unknown>>(`select * from ${table}`);
        for (const cell of rows.flatMap((row) => Object.values(row)))
          parts.push(Buffer.isBuffer(cell) ? cell.toString('latin1') : String(cell));
      }
      return parts.join('\n');
    },
    async [Symbol.asyncDispose]() {
      await client.end();
      claimed.delete(slot);
      await server.query('select pg_advisory_unlock($1, $2)', [template.lockSpace, slot]);
    },
  };
}

let connected: Promise<Client> | null = null;
afterAll(async () => {
  await (await connected)?.end();
  connected = null;
});

/** The session that holds the claims of this process. */
function administrator(): Promise<Client> {
  connected ??= connect(inject('postgresUrl') ?? '');
  return connected;
}

/** Of this process: a session is given a lock again that it holds already. */
const claimed = new Set<number>();

async function claimSlot(server: Client, { lockSpace }: PostgresTemplate): Promise<number> {
  for (let slot = 1; ; slot += 1) {
    if (claimed.has(slot)) continue;
    claimed.add(slot);
    const { rows } = await server.query<{ taken: boolean }>('select pg_try_advisory_lock($1, $2) as taken', [
      lockSpace,
      slot,
    ]);
    if (rows[0]?.taken === true) return slot;
    claimed.delete(slot);
  }
}

async function makeDatabase(server: Client, name: string, template: string): Promise<void> {
  const { rows } = await server.query('select from pg_database where datname = $1', [name]);
  if (rows.length === 0) await server.query(`create database ${name} template ${template}`);
}

/** References are by id, so what is referred to is deleted last and inserted first. */
const TABLES = [
  'next_secrets',
  'key_schedules',
  'api_key_versions',
  'api_keys',
  'tenants',
  'signing_keys',
  'token_revocations',
  'id_tag_secrets',
  'events',
  'event_details',
  'meta',
  'data_keys',
  'key_counts',
  'usage_counts',
  'key_usage',
  'tenant_usage',
  'version_usage',
  'usage_batches',
  'quota_leases',
  'idempotency',
  'job_leases',
  'log_consumers',
] as const;

async function reset(client: Client, state: FirstState): Promise<void> {
  // Of the test before, if it left any: a child that was killed, say.
  await client.query(`
    select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`);
  const copies = TABLES.toReversed().map((table) => `insert into ${table} select * from started.${table};`);
  await client.query(`
    set synchronous_commit = off;
    begin;
    alter table events disable trigger user;
    ${TABLES.map((table) => `delete from ${table};`).join(' ')}
    update log_head set seq = 0, at = 0;
    ${state === 'started' ? `${copies.join(' ')} update log_head set (seq, at) = (select seq, at from started.log_head);` : ''}
    alter table events enable trigger user;
    commit`);
}

function urlOf(name: string): string {
  const url = new URL(inject('postgresUrl') ?? '');
  url.pathname = `/${name}`;
  return url.href;
}

const INT8_OID = 20;

async function connect(connectionString: string): Promise<Client> {
  const client = new Client({
    connectionString,
    types: {
      getTypeParser: (oid, format) => (oid === INT8_OID ? Number : types.getTypeParser(oid, format)),
    },
  });
  await client.connect();
  return client;
}
