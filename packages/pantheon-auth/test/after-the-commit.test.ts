/** A failure after the commit of a change does not turn its answer into an error. */
import { afterEach, expect, test, vi } from 'vitest';
import { PantheonError } from '../src/foundation/errors.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { SqlDataKeyRows } from '../src/storage/rows/sql-data-key-rows.ts';
import { SqlEventRows } from '../src/storage/rows/sql-event-rows.ts';
import { SqlIdTagRows } from '../src/storage/rows/sql-id-tag-rows.ts';
import { SqlKeyRows } from '../src/storage/rows/sql-key-rows.ts';
import { SqlSigningKeyRows, SqlTokenRevocationRows } from '../src/storage/rows/sql-signing-key-rows.ts';
import { SqlTenantRows } from '../src/storage/rows/sql-tenant-rows.ts';
import { SqlUsageRows } from '../src/storage/rows/sql-usage-rows.ts';
import { SqlLedger } from '../src/storage/sql-ledger.ts';
import { callerFor } from './callers.ts';
import { openTestEngine } from './test-engine.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** After the next commit every read of the database fails, until this is disposed. */
function failReadsAfterCommit(): Disposable & { readonly commits: () => number } {
  let commits = 0;
  const away = async (): Promise<never> => {
    throw new PantheonError('store_unavailable', { detail: 'away', retryAfterSeconds: 1 });
  };
  const { commit } = SqlLedger.prototype;
  vi.spyOn(SqlLedger.prototype, 'commit').mockImplementation(async function (this: SqlLedger, change) {
    const done = await Reflect.apply(commit, this, [change]);
    commits += 1;
    for (const name of ['totalOf', 'totalsOf', 'ofKey', 'sums'] as const)
      vi.spyOn(SqlUsageRows.prototype, name).mockImplementation(away);
    for (const name of ['find', 'list', 'childrenOf', 'administrators'] as const)
      vi.spyOn(SqlKeyRows.prototype, name).mockImplementation(away);
    for (const name of ['list', 'lastSeq', 'actsOnKeys'] as const)
      vi.spyOn(SqlEventRows.prototype, name).mockImplementation(away);
    for (const name of ['find', 'list'] as const) vi.spyOn(SqlTenantRows.prototype, name).mockImplementation(away);
    for (const name of ['newest', 'idsInUse'] as const) vi.spyOn(SqlIdTagRows.prototype, name).mockImplementation(away);
    for (const name of ['active', 'byId'] as const) vi.spyOn(SqlDataKeyRows.prototype, name).mockImplementation(away);
    vi.spyOn(SqlSigningKeyRows.prototype, 'all').mockImplementation(away);
    vi.spyOn(SqlTokenRevocationRows.prototype, 'find').mockImplementation(away);
    return done;
  });
  return {
    commits: () => commits,
    [Symbol.dispose]: () => void vi.restoreAllMocks(),
  };
}

interface Made {
  readonly auth: PantheonAuth;
  /** A key that has been used once, and rotated once. */
  readonly id: string;
  readonly key: string;
}

/** What each change answers, as far as it tells whether it was made. */
const CHANGES: Readonly<Record<string, (made: Made) => Promise<unknown>>> = {
  create: async ({ auth }) => (await auth.keys.create({ userId: 'u', name: 'n' })).apiKey.state,
  update: async ({ auth, id }) => (await auth.keys.update(id, { name: 'new' })).name,
  suspend: async ({ auth, id }) => (await auth.keys.suspend(id)).state,
  revoke: async ({ auth, id }) => (await auth.keys.revoke(id)).state,
  'revoke and settle': async ({ auth, id }) => (await auth.keys.revoke(id, { settle: true })).state,
  revokeSelf: async ({ auth, key }) => (await auth.keys.revokeSelf(await callerFor(auth, key))).state,
  rotate: async ({ auth, id }) => (await auth.rotation.rotate(id, { expectedVersion: 2 })).apiKey.version,
  retire: async ({ auth, id }) => (await auth.rotation.retire(id, 1)).version,
  'suspend a tenant': async ({ auth }) => (await auth.tenants.suspend('acme')).state,
  'rotate a signing key': async ({ auth }) => typeof (await auth.tokens.rotateSigningKey('ES256')).kid,
  'retire a signing key': async ({ auth }) => auth.tokens.retireSigningKey(String(auth.tokens.jwks().keys[0]?.['kid'])),
  'add a secret for ids': async ({ auth }) => (await auth.idTags.add()).number,
};
const ANSWERS: Readonly<Record<string, unknown>> = {
  create: 'active',
  update: 'new',
  suspend: 'suspended',
  revoke: 'revoked',
  'revoke and settle': 'revoked',
  revokeSelf: 'revoked',
  rotate: 3,
  retire: 1,
  'suspend a tenant': 'suspended',
  'rotate a signing key': 'string',
  'retire a signing key': undefined,
  'add a secret for ids': 2,
};

test.each(Object.keys(CHANGES))(
  '%s is answered as committed, although the store answers no statement after the commit',
  async (name) => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    await auth.tenants.create({ id: 'acme' });
    const { apiKey } = await auth.keys.create({ userId: 'u', name: 'n' });
    const { key } = await auth.rotation.rotate(apiKey.id, { overlap: '1h' });
    const ticking = setInterval(() => clock.advance(500), 10);
    try {
      using reads = failReadsAfterCommit();
      expect(await CHANGES[name]?.({ auth, id: apiKey.id, key })).toBe(ANSWERS[name]);
      expect(reads.commits()).toBe(1);
    } finally {
      clearInterval(ticking);
    }
  },
);

test('if stored usage cannot be read, the answer to a change shows the usage that this node has counted', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { apiKey, key } = await auth.keys.create({ userId: 'u', name: 'n' });
  await auth.verify({ key });
  vi.spyOn(SqlUsageRows.prototype, 'totalOf').mockRejectedValue(new Error('away'));
  expect(await auth.keys.suspend(apiKey.id)).toMatchObject({ state: 'suspended', usageCount: 1 });
});
