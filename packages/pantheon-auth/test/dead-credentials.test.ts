/**
 * What has died acts no more, however it died and however far a request had come: a credential that was good when the
 * headers arrived changes nothing after its end, and a token outlives nothing that it was made from.
 */
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { describe, expect, test, vi } from 'vitest';
import type { CreateOptions } from '../src/api-keys/key-manager.ts';
import type { SigningAlgorithm } from '../src/domain/claims.ts';
import type { Caller } from '../src/domain/key-policy.ts';
import type { Commit } from '../src/events/ledger.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { SqlLedger } from '../src/storage/sql-ledger.ts';
import { callerBy, callerFor, callerWith } from './callers.ts';
import { refusalOf } from './refusal-of.ts';
import { openTestEngine, type TestEngine } from './test-engine.ts';

const ADMINISTRATOR = { userId: 'a', name: 'administrator', permissions: ['pantheon:*'], grantable: ['*'] };
/** What a token may make and act on: a token hands out no application permissions, and makes nothing that outlives it. */
const INPUT = { userId: 'u', name: 'n', permissions: ['pantheon:keys:read'], expiresIn: '1m' };
const API = 'https://api.example';
const OTHER_API = 'https://other.example';

const system = (auth: PantheonAuth) => auth.tenant('system').keys;
const codeOf = async (work: () => Promise<unknown>): Promise<string> =>
  work().then(
    () => 'done',
    (error) => error.code,
  );

/** A credential that was accepted, and what is needed to end it. */
interface Accepted {
  readonly by: Caller;
  readonly keyId: string;
  readonly tenantId: string;
  readonly credential: string;
}

interface Kind {
  /** `name` is not used twice in one engine. */
  readonly accept: (engine: TestEngine, name: string) => Promise<Accepted>;
  readonly end: (auth: PantheonAuth, accepted: Accepted) => Promise<unknown>;
  /** What the caller is told then. */
  readonly code: string;
}

/** An administrator of the system and a token of it, which another administrator survives. */
async function tokenCaller(
  { auth }: TestEngine,
  input: {
    readonly name?: string;
    readonly jwt?: { algorithm?: SigningAlgorithm; audience?: string[]; customClaims?: { role: string } };
  } = {},
  options: CreateOptions = {},
): Promise<Accepted> {
  await system(auth).create(ADMINISTRATOR);
  const { apiKey } = await system(auth).create({ ...ADMINISTRATOR, ...input }, options);
  // Managing is in a token only when it is asked for by name.
  const { permissions } = ADMINISTRATOR;
  const { token } = await auth.tokens.issue({ tenantId: 'system', keyId: apiKey.id }, { permissions });
  const by = input.name === undefined ? await callerBy(auth, token, input.jwt?.audience) : callerOfUnused(token);
  return { by, keyId: apiKey.id, tenantId: 'system', credential: token };
}

/** The caller that this token makes, though it was never presented: a key that was used keeps its secret. */
function callerOfUnused(token: string): Caller {
  const {
    jti: tokenId = '',
    iat = 0,
    exp = 0,
    sub: subject = '',
    aud,
    client_id: keyId,
  } = decodeJwt<{ client_id: string }>(token);
  const { kid = '' } = decodeProtectedHeader(token);
  const claims = {
    issuedAt: iat * 1_000,
    expiresAt: exp * 1_000,
    subject,
    customClaims: {},
    acceptedFor: [String(aud)],
  };
  return callerWith({
    ...{ keyId, tenantId: 'system', grantable: [] },
    ...{ via: 'token', token: { tokenId, kind: 'access', algorithm: 'ES256', kid, ...claims } },
  });
}

async function keyCaller({ auth }: TestEngine, tenantId: string): Promise<Accepted> {
  if (tenantId === 'system') await system(auth).create(ADMINISTRATOR);
  else await auth.tenants.create({ id: tenantId });
  const { key, apiKey } = await auth.tenant(tenantId).keys.create(ADMINISTRATOR);
  return { by: await callerFor(auth, key), keyId: apiKey.id, tenantId, credential: key };
}

const jwtFor = (algorithm: SigningAlgorithm, ...audience: string[]) => ({ jwt: { algorithm, audience } });
const KINDS: Readonly<Record<string, Kind>> = {
  'a token, by its id': {
    accept: (engine) => tokenCaller(engine),
    end: (auth, { keyId, tenantId, credential }) => {
      const { jti: tokenId = '', exp = 0 } = decodeJwt(credential);
      return auth.tokens.revoke({ tenantId, keyId, tokenId, expiresAt: exp * 1_000 });
    },
    code: 'revoked',
  },
  'a token, by "issued before"': {
    accept: (engine) => tokenCaller(engine),
    end: (auth, { keyId, tenantId }) => auth.tokens.revokeAllOf({ tenantId, keyId }),
    code: 'revoked',
  },
  'a token, by its signing key': {
    accept: (engine) => tokenCaller(engine),
    end: (auth, { credential }) => auth.tokens.retireSigningKey(decodeProtectedHeader(credential).kid ?? ''),
    code: 'invalid_key',
  },
  'a token, by its key version': {
    accept: (engine) => tokenCaller(engine),
    end: (auth, { keyId }) => auth.tenant('system').rotation.rotate(keyId, { overlap: 0 }),
    code: 'version_retired',
  },
  'a token, by the secret of its version': {
    accept: (engine, name) => tokenCaller(engine, { name }, { idempotencyKey: name }),
    end: async (auth, { keyId }) => {
      const { name } = await system(auth).get(keyId);
      const again = await system(auth).create({ ...ADMINISTRATOR, name }, { idempotencyKey: name });
      expect(again.apiKey).toMatchObject({ id: keyId, version: 1 });
    },
    code: 'revoked',
  },
  'a token, by its key': {
    accept: (engine) => tokenCaller(engine),
    end: (auth, { keyId }) => system(auth).revoke(keyId),
    code: 'revoked',
  },
  'a token, by the permissions of its key': {
    accept: (engine) => tokenCaller(engine),
    end: (auth, { keyId }) => system(auth).update(keyId, { permissions: ['pantheon:keys:read'] }),
    code: 'insufficient_permissions',
  },
  'a token, by its audience': {
    accept: (engine) => tokenCaller(engine, jwtFor('ES256', API, OTHER_API)),
    end: (auth, { keyId }) => system(auth).update(keyId, jwtFor('ES256', OTHER_API)),
    code: 'wrong_audience',
  },
  'a token, by a custom claim': {
    accept: (engine) => tokenCaller(engine, { jwt: { customClaims: { role: 'admin' } } }),
    end: (auth, { keyId }) => system(auth).update(keyId, { jwt: { customClaims: { role: 'guest' } } }),
    code: 'expired',
  },
  'a token, by its user': {
    accept: (engine) => tokenCaller(engine),
    end: (auth, { keyId }) => system(auth).update(keyId, { userId: 'somebody else' }),
    code: 'expired',
  },
  'a token, by its algorithm': {
    accept: (engine) => tokenCaller(engine, jwtFor('ES256', API, OTHER_API)),
    end: (auth, { keyId }) => system(auth).update(keyId, jwtFor('Ed25519', API)),
    code: 'expired',
  },
  'a token that its key signed, by the policy of the key': {
    accept: (engine) => tokenCaller(engine, jwtFor('HS256', API)),
    end: (auth, { keyId }) => system(auth).update(keyId, jwtFor('ES256', API)),
    code: 'invalid_key',
  },
  'a token that its key signed, by its id': {
    accept: (engine) => tokenCaller(engine, jwtFor('HS256', API)),
    end: (auth, { keyId, tenantId, credential }) => {
      const { jti: tokenId = '', exp = 0 } = decodeJwt(credential);
      return auth.tokens.revoke({ tenantId, keyId, tokenId, expiresAt: exp * 1_000 });
    },
    code: 'revoked',
  },
  'a key, by its tenant': {
    accept: (engine, name) => keyCaller(engine, name),
    end: (auth, { tenantId }) => auth.tenants.suspend(tenantId),
    code: 'suspended',
  },
  'a key, by its deleted tenant': {
    accept: (engine, name) => keyCaller(engine, name),
    end: (auth, { tenantId }) => auth.tenants.delete(tenantId),
    code: 'invalid_key',
  },
  'a key, by its version': {
    accept: (engine) => keyCaller(engine, 'system'),
    end: (auth, { keyId }) => auth.tenant('system').rotation.rotate(keyId, { overlap: 0 }),
    code: 'version_retired',
  },
};

/** Every way to change something, by a caller in the tenant where it acts. */
async function changesIn({ auth }: TestEngine, tenantId: string, name: string) {
  const { keys, rotation } = auth.tenant(tenantId);
  const { id } = (await keys.create(INPUT)).apiKey;
  const suspended = (await keys.create(INPUT)).apiKey.id;
  await keys.suspend(suspended);
  const rotated = (await keys.create(INPUT)).apiKey.id;
  await rotation.rotate(rotated);
  const target = { tenantId, keyId: id };
  const signingKey = await auth.tokens.rotateSigningKey('Ed25519');
  const ofKeys: Readonly<Record<string, (by: Caller) => Promise<unknown>>> = {
    create: (by) => keys.create(INPUT, { by }),
    'create once': (by) => keys.create(INPUT, { by, idempotencyKey: 'another' }),
    update: (by) => keys.update(id, { name: 'other' }, { by }),
    suspend: (by) => keys.suspend(id, { by }),
    resume: (by) => keys.resume(suspended, { by }),
    rotate: (by) => rotation.rotate(id, {}, { by }),
    retire: (by) => rotation.retire(rotated, 1, { by }),
    'tokens.issue': (by) => auth.tokens.issue(target, {}, { by }),
    'tokens.revoke': (by) => auth.tokens.revoke({ ...target, tokenId: name, expiresAt: 0 }, { by }),
    'tokens.revokeAllOf': (by) => auth.tokens.revokeAllOf(target, { by }),
    revoke: (by) => keys.revoke(id, { by, cascade: 'acted' }),
  };
  const ofTenants: typeof ofKeys = {
    'tenants.create': (by) => auth.tenants.create({ id: `next-${name}` }, { by }),
    'tenants.update': (by) => auth.tenants.update('default', { name: 'other' }, { by }),
    'tenants.suspend': (by) => auth.tenants.suspend('default', { by }),
    'idTags.add': (by) => auth.idTags.add({ by }),
    'idTags.retire': (by) => auth.idTags.retire(1, { by }),
    'tokens.rotateSigningKey': (by) => auth.tokens.rotateSigningKey('RS256', { by }),
    'tokens.retireSigningKey': (by) => auth.tokens.retireSigningKey(signingKey.kid, { by }),
  };
  return Object.entries(tenantId === 'system' ? { ...ofKeys, ...ofTenants } : ofKeys);
}

describe('a credential that is ended between the headers and the body of a request changes nothing', () => {
  test.each(Object.entries(KINDS))('%s', async (_name, { accept, end, code }) => {
    await using engine = await openTestEngine();
    const accepted = await accept(engine, 'one');
    const changes = await changesIn(engine, accepted.tenantId, 'one');
    await end(engine.auth, accepted);
    const before = await engine.sql('select seq from log_head');
    for (const [name, change] of changes) expect(await codeOf(() => change(accepted.by)), name).toBe(code);
    expect(await engine.sql('select seq from log_head')).toEqual(before);
  });
});

describe('nor does one that is ended on another node between the last check and the commit', () => {
  /** Runs `between` once, when the next commit is about to be made. The moment cannot be hit from outside. */
  function beforeNextCommit(between: () => Promise<unknown>): Disposable {
    const commit = SqlLedger.prototype.commit;
    let isArmed = true;
    const spy = vi.spyOn(SqlLedger.prototype, 'commit').mockImplementation(async function (
      this: SqlLedger,
      what: Commit,
    ) {
      if (isArmed) {
        isArmed = false;
        await between();
      }
      return commit.call(this, what);
    });
    return { [Symbol.dispose]: () => spy.mockRestore() };
  }

  test.each(Object.entries(KINDS))('%s', async (_name, { accept, end, code }) => {
    await using engine = await openTestEngine();
    const other = await engine.openAgain();
    const count = (await changesIn(engine, 'system', 'all')).length;
    for (let n = 0; n < count; n += 1) {
      await engine.propagate();
      engine.clock.advance(1);
      const accepted = await accept(engine, `n${n}`);
      const [name, change] = (await changesIn(engine, accepted.tenantId, `n${n}`))[n] ?? [];
      // Callers of other tenants have fewer.
      if (name === undefined || change === undefined) continue;
      const { authority } = accepted.by;
      // A token makes none, so there is no commit.
      if (name === 'tokens.issue' && authority.kind === 'key' && authority.via === 'token') continue;
      let after: unknown = null;
      using _armed = beforeNextCommit(async () => {
        await end(other, accepted);
        after = await engine.sql('select seq from log_head');
      });
      // Told by its code, or as a conflict where the change is not tried again.
      expect([code, 'conflict'], name).toContain(await codeOf(() => change(accepted.by)));
      expect(await engine.sql('select seq from log_head'), name).toEqual(after);
    }
  });
});

test('a caller whose key is missing, for example after a failover that lost its creation, changes nothing', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  const { apiKey } = await auth.keys.create({ userId: 'u', name: 'n' });
  const by = callerWith({ tenantId: 'system' });
  for (const change of [
    () => auth.keys.create({ userId: 'u', name: 'n' }, { by }),
    () => auth.keys.update(apiKey.id, { name: 'm' }, { by }),
    () => auth.rotation.rotate(apiKey.id, {}, { by }),
    () => auth.keys.revoke(apiKey.id, { by }),
    () => auth.tokens.issue({ tenantId: 'default', keyId: apiKey.id }, {}, { by }),
    () => auth.tokens.revokeAllOf({ tenantId: 'default', keyId: apiKey.id }, { by }),
    () => auth.tenants.create({ id: 'acme' }, { by }),
    () => auth.idTags.add({ by }),
  ])
    expect(await refusalOf(change)).toMatchObject({ code: 'invalid_key' });
  expect((await auth.keys.list()).items).toHaveLength(1);
  expect(await auth.keys.get(apiKey.id)).toMatchObject({ name: 'n', state: 'active' });
});
