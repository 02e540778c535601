/** A store that an earlier version wrote opens, and its keys and tokens answer what they answered then. */
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import { newDatabaseName, withClient, withDatabase } from '../../../tools/servers/postgres.ts';
import type { PantheonAuthOptions } from '../src/options.ts';
import { createPantheonAuth } from '../src/pantheon-auth.ts';
import { postgres } from '../src/storage/postgres.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { ISSUER, postgresNode } from './postgres-node.ts';
import { STORE } from './store.ts';
import { type Expected, STORES_FOLDER, type StoredContents } from './stored-contents.ts';

const FIXTURES = fileURLToPath(STORES_FOLDER);
const A_MINUTE_LATER_MS = 60_000;

interface Restored extends AsyncDisposable {
  readonly options: PantheonAuthOptions;
}

async function restore(name: string, { masterKey }: StoredContents): Promise<Restored> {
  if (STORE === 'postgres') return restoreDump(join(FIXTURES, name, 'postgres.sql'));
  const dataDir = mkdtempSync(join(tmpdir(), 'pantheon-auth-'));
  copyFileSync(join(FIXTURES, name, 'sqlite.db'), join(dataDir, 'pantheon-auth.db'));
  return {
    options: { dataDir, issuer: ISSUER, masterKey },
    [Symbol.asyncDispose]: async () => rmSync(dataDir, { recursive: true, force: true }),
  };
}

async function restoreDump(file: string): Promise<Restored> {
  const server = inject('postgresUrl') ?? '';
  const database = newDatabaseName();
  await withClient(server, (client) => client.query(`create database ${database}`));
  const url = withDatabase(server, database);
  await withClient(url, (client) => client.query(readFileSync(file, 'utf8')));
  await postgres({ url }).migrate();
  return {
    options: postgresNode(url),
    [Symbol.asyncDispose]: async () => {
      await withClient(server, (client) => client.query(`drop database if exists ${database} with (force)`));
    },
  };
}

const answerOf = (verification: { readonly valid: boolean; readonly denial?: { readonly code: string } }): string =>
  verification.denial?.code ?? 'valid';
const expectedOf = (all: readonly Expected[]): Record<string, string> =>
  Object.fromEntries(all.map(({ name, answer }) => [name, answer]));

for (const name of readdirSync(FIXTURES)) {
  test(`the store ${name} opens, and its keys, tokens, events and counts are as they were`, async () => {
    const contents = JSON.parse(readFileSync(join(FIXTURES, name, `${STORE}.json`), 'utf8')) as StoredContents;
    await using restored = await restore(name, contents);
    const clock = new TestClock(Date.parse(contents.madeAt) + A_MINUTE_LATER_MS);
    const auth = await createPantheonAuth({ ...restored.options, clock });
    const ask = ({ tenant, environment, ip }: Expected) => ({ tenant, environment, ip, cost: 0 });

    const keys: Record<string, string> = {};
    for (const one of contents.keys) keys[one.name] = answerOf(await auth.verify({ key: one.credential, ...ask(one) }));
    expect(keys).toEqual(expectedOf(contents.keys));
    const tokens: Record<string, string> = {};
    for (const one of contents.tokens)
      tokens[one.name] = answerOf(await auth.tokens.verify({ token: one.credential, ...ask(one) }));
    expect(tokens).toEqual(expectedOf(contents.tokens));
    expect(auth.tokens.jwks().keys.map((jwk) => jwk['kid'])).toEqual(expect.arrayContaining([...contents.kids]));

    const { items } = await auth.keys.list({ q: 'limited' });
    expect(items).toMatchObject([
      { name: 'limited', usageCount: expect.toSatisfy((n) => n >= contents.usageOfLimited) },
    ]);
    const created = await auth.events.list('default', { type: 'key.created', limit: 200 });
    const inOtherTenants = 2;
    expect(created.items).toHaveLength((contents.events['key.created'] ?? 0) - inOtherTenants);

    // And it goes on: what is made now works.
    const { key } = await auth.keys.create({ userId: 'user-1', name: 'new' });
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    await auth.close();
  });
}
