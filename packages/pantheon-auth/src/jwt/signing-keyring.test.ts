import { createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose';
import { describe, expect, test, vi } from 'vitest';
import { authRequest, callerFor, callerWith, keyAndCaller } from '../../test/callers.ts';
import { untilRuns } from '../../test/job-runs.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import type { ChangeOptions } from '../domain/caller.ts';
import type { Caller } from '../domain/key-policy.ts';
import { JWKS_MAX_AGE_SECONDS, KEPT_AFTER_USE_MS, PUBLISHED_BEFORE_USE_MS } from '../domain/signing-key-schedule.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Ledger } from '../events/ledger.ts';
import { DAY_MS } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import type { SigningKeyRow } from '../schema/signing-key-row.ts';
import { TestClock } from '../testing/test-clock.ts';
import { SigningKeyChanges } from './signing-key-changes.ts';
import type { SigningKeyRows } from './signing-key-rows.ts';
import { SIGNING_ALGORITHMS, SigningKeyring } from './signing-keyring.ts';

async function tokenOf(engine: TestEngine, algorithm: 'ES256' | 'Ed25519' | 'RS256' = 'ES256') {
  const { key } = await engine.auth.keys.create({ userId: 'u', name: 'n', jwt: { algorithm } });
  const exchange = await engine.auth.tokens.exchange({ key });
  const token = exchange.issued ? exchange.token.token : '';
  return { token, kid: decodeProtectedHeader(token).kid ?? '' };
}

const kids = (engine: TestEngine): unknown[] => engine.auth.tokens.jwks().keys.map((key) => key['kid']);
const keyIdOf = ({ authority }: Caller): string | null => (authority.kind === 'key' ? authority.keyId : null);

/** Until the one that takes over may sign. */
async function rotated(engine: TestEngine, algorithm: 'ES256' | 'Ed25519' | 'RS256' = 'ES256'): Promise<string> {
  const { kid, signsFrom } = await engine.auth.tokens.rotateSigningKey(algorithm);
  engine.clock.advance(Math.max(0, (signsFrom?.getTime() ?? 0) - engine.clock.now()));
  return kid;
}
const stateOf = (engine: TestEngine, kid: string) =>
  engine.auth.tokens.signingKeys().find((one) => one.kid === kid)?.state;

test('the first start creates a current and a standby key for each algorithm, and the next start finds them', async () => {
  await using engine = await openTestEngine();
  const made = engine.auth.tokens.signingKeys().map(({ algorithm, state }) => `${algorithm} ${state}`);
  const expected = SIGNING_ALGORITHMS.flatMap((algorithm) => [`${algorithm} signing`, `${algorithm} standby`]);
  expect(made.toSorted()).toEqual(expected.toSorted());
  const again = await engine.openAgain();
  expect(again.tokens.jwks()).toEqual(engine.auth.tokens.jwks());
});

test('a standby key was published before it signs, and the previous key verifies until it is retired', async () => {
  await using engine = await openTestEngine();
  await rotated(engine);
  const before = await tokenOf(engine);
  const published = kids(engine);
  const { kid, state, signsFrom } = await engine.auth.tokens.rotateSigningKey('ES256');
  expect(published).toContain(kid);
  expect(state).toBe('next');
  expect((await tokenOf(engine)).kid).toBe(before.kid);
  // While it waits, another rotation is the same one.
  expect(await engine.auth.tokens.rotateSigningKey('ES256')).toEqual({
    kid,
    algorithm: 'ES256',
    state,
    signsFrom,
    createdAt: expect.any(Date),
  });
  engine.clock.advance(PUBLISHED_BEFORE_USE_MS);
  expect((await tokenOf(engine)).kid).toBe(kid);
  expect([stateOf(engine, kid), stateOf(engine, before.kid)]).toEqual(['signing', 'previous']);
  const again = await tokenOf(engine);
  await engine.auth.tokens.retireSigningKey(before.kid);
  expect(kids(engine)).not.toContain(before.kid);
  expect(await engine.auth.tokens.verify({ token: before.token })).toMatchObject({ valid: false });
  expect(await engine.auth.tokens.verify({ token: again.token })).toMatchObject({ valid: true });
  // Idempotent: it writes no second event.
  await engine.auth.tokens.retireSigningKey(before.kid);
  const { items } = await engine.auth.events.list('system', { type: 'signing_key.retired' });
  expect(items).toHaveLength(1);
  expect(await refusalOf(engine.auth.tokens.retireSigningKey('nothing'))).toMatchObject({
    code: 'not_found',
    field: 'kid',
  });
});

test('a standby key that has been published for long enough signs at once', async () => {
  await using engine = await openTestEngine();
  engine.clock.advance(PUBLISHED_BEFORE_USE_MS);
  const standby = engine.auth.tokens.signingKeys().find((one) => one.state === 'standby' && one.algorithm === 'ES256');
  expect(await engine.auth.tokens.rotateSigningKey('ES256')).toMatchObject({ kid: standby?.kid, state: 'signing' });
  expect((await tokenOf(engine)).kid).toBe(standby?.kid);
});

test('a verifier that has cached the public keys for as long as it may verifies every token through rotations', async () => {
  await using engine = await openTestEngine();
  const { tokens } = engine.auth;
  let cached = { at: engine.clock.now(), keys: createLocalJWKSet(tokens.jwks() as JSONWebKeySet) };
  let signers = new Set<string>();
  for (let minute = 0; minute < 120; minute += 1) {
    if (minute % 20 === 5) await tokens.rotateSigningKey('ES256');
    const { token, kid } = await tokenOf(engine);
    signers = signers.add(kid);
    if (engine.clock.now() - cached.at >= JWKS_MAX_AGE_SECONDS * 1_000)
      cached = { at: engine.clock.now(), keys: createLocalJWKSet(tokens.jwks() as JSONWebKeySet) };
    await expect(jwtVerify(token, cached.keys, { currentDate: new Date(engine.clock.now()) })).resolves.toBeDefined();
    engine.clock.advance(60_000);
  }
  expect(signers.size).toBe(7);
});

test('when the current key is retired, the standby key signs at once', async () => {
  await using engine = await openTestEngine();
  const before = await tokenOf(engine, 'Ed25519');
  const standby = engine.auth.tokens
    .signingKeys()
    .find((one) => one.state === 'standby' && one.algorithm === 'Ed25519');
  await engine.auth.tokens.retireSigningKey(before.kid);
  const after = await tokenOf(engine, 'Ed25519');
  expect(after.kid).toBe(standby?.kid);
  expect(await engine.auth.tokens.verify({ token: after.token })).toMatchObject({ valid: true });
  const { items } = await engine.auth.events.list('system', { subjectType: 'signing_key', limit: 2 });
  expect(items.map(({ type }) => type)).toEqual(['signing_key.activated', 'signing_key.retired']);
  // And without one, a new one.
  await engine.auth.tokens.retireSigningKey(after.kid);
  expect((await tokenOf(engine, 'Ed25519')).kid).not.toBe(after.kid);
});

test('a compromised key ends together with the standby key, and no token is issued until a new one was published', async () => {
  await using engine = await openTestEngine();
  const old = await tokenOf(engine);
  const kid = await rotated(engine);
  const before = new Set(kids(engine));
  await engine.auth.tokens.retireSigningKey(kid, { compromised: true });
  const left = engine.auth.tokens.signingKeys().filter((one) => one.algorithm === 'ES256');
  expect(left.map(({ state }) => state).toSorted()).toEqual(['next', 'standby']);
  expect(left.some((one) => before.has(one.kid))).toBe(false);
  expect(await engine.auth.tokens.verify({ token: old.token })).toMatchObject({ valid: false });
  const { key } = await engine.auth.keys.create({ userId: 'u', name: 'n' });
  expect(await refusalOf(engine.auth.tokens.exchange({ key }))).toMatchObject({
    code: 'signing_key_unavailable',
    retryAfterSeconds: 60,
  });
  engine.clock.advance(PUBLISHED_BEFORE_USE_MS);
  expect((await tokenOf(engine)).kid).toBe(left.find(({ state }) => state === 'next')?.kid);
  // Tokens of other algorithms were made all the while.
  expect((await tokenOf(engine, 'Ed25519')).token).not.toBe('');
});

test('the same holds if another node retires it at the same moment', async () => {
  await using engine = await openTestEngine();
  const { kid } = await tokenOf(engine);
  const before = new Set(kids(engine));
  const other = await engine.openAgain();
  // The moment cannot be hit from outside.
  const { decideCompromised } = SigningKeyChanges.prototype;
  let isFirst = true;
  const spy = vi.spyOn(SigningKeyChanges.prototype, 'decideCompromised').mockImplementation(async function (
    this: SigningKeyChanges,
    ...of
  ) {
    const change = await decideCompromised.apply(this, of);
    if (isFirst) await other.tokens.retireSigningKey(kid);
    isFirst = false;
    return change;
  });
  await engine.auth.tokens.retireSigningKey(kid, { compromised: true });
  spy.mockRestore();
  const left = engine.auth.tokens.signingKeys().filter((one) => one.algorithm === 'ES256');
  expect(left.map(({ state }) => state).toSorted()).toEqual(['next', 'standby']);
  expect(left.some((one) => before.has(one.kid))).toBe(false);
});

test('when the current key is retired while a rotation waits, the standby key signs at once', async () => {
  await using engine = await openTestEngine();
  await rotated(engine);
  const { kid: next, state } = await engine.auth.tokens.rotateSigningKey('ES256');
  expect(state).toBe('next');
  await engine.auth.tokens.retireSigningKey((await tokenOf(engine)).kid);
  expect((await tokenOf(engine)).kid).toBe(next);
});

test('the job rotates when a key is due, and retires the previous one when its last token has expired', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const first = await tokenOf(engine);
  const standby = auth.tokens.signingKeys().find((one) => one.state === 'standby' && one.algorithm === 'ES256');
  await untilRuns(clock, [auth], 'signing-key-rotation', 2);
  expect(stateOf(engine, first.kid)).toBe('signing');
  clock.advance(90 * DAY_MS);
  await untilRuns(clock, [auth], 'signing-key-rotation', 2);
  expect((await tokenOf(engine)).kid).toBe(standby?.kid);
  expect(stateOf(engine, first.kid)).toBe('previous');
  clock.advance(KEPT_AFTER_USE_MS);
  await untilRuns(clock, [auth], 'signing-key-rotation', 2);
  expect(kids(engine)).not.toContain(first.kid);
  const { items } = await auth.events.list('system', { subjectType: 'signing_key', type: 'signing_key.retired' });
  expect(items).toMatchObject(SIGNING_ALGORITHMS.map(() => ({ actor: { job: 'signing-key-rotation' } })));
});

test('regular rotation can be turned off, and an unknown algorithm is refused', async () => {
  await using engine = await openTestEngine({ signingKeyRotation: 'off' });
  const { auth, clock } = engine;
  const { kid } = await tokenOf(engine);
  clock.advance(400 * DAY_MS);
  await untilRuns(clock, [auth], 'signing-key-rotation', 2);
  expect(stateOf(engine, kid)).toBe('signing');
  for (const algorithm of ['HS256', 'none', 'es256', undefined])
    expect(await refusalOf(() => auth.tokens.rotateSigningKey(algorithm as 'ES256'))).toMatchObject({
      code: 'invalid_request',
      field: 'algorithm',
    });
  expect(
    await refusalOf(() => auth.tokens.retireSigningKey(kid, { compromised: 'no' as unknown as boolean })),
  ).toMatchObject({
    field: 'compromised',
  });
});

test('a key that turns out to be compromised after it was retired takes those that were stored beside it with it, once', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { kid } = await tokenOf(engine);
  const ofAlgorithm = () => auth.tokens.signingKeys().filter((one) => 'state' in one && one.algorithm === 'ES256');
  clock.advance(PUBLISHED_BEFORE_USE_MS);
  await auth.tokens.retireSigningKey(kid);
  const beside = ofAlgorithm().map((one) => one.kid);
  clock.advance(PUBLISHED_BEFORE_USE_MS);
  await auth.tokens.retireSigningKey(kid, { compromised: true });
  const fresh = ofAlgorithm().map((one) => one.kid);
  expect(fresh.filter((one) => beside.includes(one))).toEqual([]);
  expect(fresh.length).toBeGreaterThan(0);
  // Repeated by a client that lost the answer, it ends nothing of what came after.
  await auth.tokens.retireSigningKey(kid, { compromised: true });
  expect(ofAlgorithm().map((one) => one.kid)).toEqual(fresh);
});

test('a key that is retired by two processes at once is retired once', async () => {
  await using engine = await openTestEngine();
  const other = await engine.openAgain();
  const { kid } = await tokenOf(engine);
  await rotated(engine);
  await Promise.all([engine.auth.tokens.retireSigningKey(kid), other.tokens.retireSigningKey(kid)]);
  const { items } = await engine.auth.events.list('system', { type: 'signing_key.retired' });
  expect(items).toHaveLength(1);
});

describe('a caller that changes signing keys', () => {
  test('needs to be a key of the system tenant with the permission; for others there are none (I10), and each event names it', async () => {
    await using engine = await openTestEngine();
    const { tokens, events } = engine.auth;
    const allowed = ['pantheon:signing-keys:*'];
    const { by } = await keyAndCaller(engine, 'system', { permissions: allowed });
    const reader = callerWith({ tenantId: 'system', permissions: ['pantheon:keys:*', 'pantheon:id-tags:*'] });
    const outside = callerWith({ tenantId: 'default', permissions: allowed });
    const { kid } = await tokens.rotateSigningKey('ES256', { by });
    const changes = [
      (options: ChangeOptions) => tokens.rotateSigningKey('Ed25519', options),
      (options: ChangeOptions) => tokens.retireSigningKey(kid, options),
    ];
    for (const change of changes) {
      expect((await refusalOf(change({ by: reader }))).code).toBe('insufficient_permissions');
      expect((await refusalOf(change({ by: outside }))).code).toBe('not_found');
    }
    expect(kids(engine)).toContain(kid);
    await tokens.retireSigningKey(kid, { by });
    const { items } = await events.list('system', { subjectType: 'signing_key', limit: 4 });
    expect(items.map(({ type }) => type)).toEqual([
      'signing_key.activated',
      'signing_key.retired',
      'signing_key.created',
      'signing_key.activated',
    ]);
    for (const { actor } of items) expect(actor?.keyId).toBe(keyIdOf(by));
    expect((await refusalOf(() => tokens.signingKeys({ by: reader }))).code).toBe('insufficient_permissions');
    expect((await refusalOf(() => tokens.signingKeys({ by: outside }))).code).toBe('not_found');
  });

  test('and is revoked while the last key of an algorithm is being retired: that key stays, without a successor', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { kid } = await tokenOf(engine);
    const system = auth.tenant('system').keys;
    const { key, apiKey } = await system.create({
      userId: 'a',
      name: 'n',
      permissions: ['pantheon:signing-keys:retire'],
    });
    const by = await callerFor(auth, key);
    const other = await engine.openAgain();
    // The moment cannot be hit from outside.
    const decideRetire = SigningKeyChanges.prototype.decideRetire;
    const spy = vi.spyOn(SigningKeyChanges.prototype, 'decideRetire').mockImplementation(async function (
      this: SigningKeyChanges,
      ...of
    ) {
      await other.tenant('system').keys.revoke(apiKey.id);
      return decideRetire.apply(this, of);
    });
    const before = kids(engine);
    expect((await refusalOf(auth.tokens.retireSigningKey(kid, { by }))).code).toBe('revoked');
    spy.mockRestore();
    expect(kids(engine)).toEqual(before);
  });
});

describe('a row that was changed outside of the service', () => {
  test('adds no key: the public key comes from the sealed private key', async () => {
    await using engine = await openTestEngine();
    const published = engine.auth.tokens.jwks();
    await engine.sql(`update signing_keys set public_jwk = '{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}'`);
    expect((await engine.openAgain()).tokens.jwks()).toEqual(published);
  });

  test.each(SIGNING_ALGORITHMS)(
    'and cannot be decrypted, %s: tokens that it has not signed are denied all the same, and counted',
    async (algorithm) => {
      await using engine = await openTestEngine();
      const { token, kid } = await tokenOf(engine, algorithm);
      await engine.sql('update signing_keys set sealed = substr(sealed, 1, 50) where kid = ?', kid);
      const fresh = await engine.openAgain();
      const [header = '', payload = '', signature = ''] = token.split('.');
      const other = Buffer.from(payload, 'base64url').toString().replace('"sub":"u"', '"sub":"v"');
      const forged = [
        `${header}.${payload}.${'A'.repeat(signature.length)}`,
        `${header}.${Buffer.from(other).toString('base64url')}.${signature}`,
      ];
      for (const one of forged) {
        expect(await fresh.tokens.verify({ token: one })).toMatchObject({
          valid: false,
          secretVerified: false,
          denial: { code: 'unknown' },
        });
        expect((await fresh.authenticate(authRequest(one))) as unknown).toMatchObject({ refusal: { status: 401 } });
      }
      expect(fresh.outcomes().get('unknown')).toBe(2 * forged.length);
      expect((await refusalOf(fresh.tokens.verify({ token }))).code).toBe('key_quarantined');
      // With its public half changed too there is nothing to tell them apart by: nobody is told that a token is dead.
      await engine.sql(`update signing_keys set public_jwk = '{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}'`);
      const blind = await engine.openAgain();
      for (const one of [token, ...forged])
        expect((await refusalOf(blind.tokens.verify({ token: one }))).code).toBe('key_quarantined');
    },
  );

  test.each([
    ['its sealed part', 'update signing_keys set sealed = substr(sealed, 1, 50) where kid = ?'],
    ['its algorithm', `update signing_keys set algorithm = 'RS256' where kid = ?`],
  ])('gives 503 for its tokens and is logged, and all others are accepted: %s', async (_name, sql) => {
    await using engine = await openTestEngine();
    const { token, kid } = await tokenOf(engine);
    await engine.sql(sql, kid);
    const fresh = await engine.openAgain();
    expect(engine.logged.join()).toContain('a signing key is damaged');
    expect((await refusalOf(fresh.tokens.verify({ token }))).code).toBe('key_quarantined');
    const made = await fresh.keys.create({ userId: 'u', name: 'n' });
    const exchange = await fresh.tokens.exchange({ key: made.key });
    expect(exchange.issued && (await fresh.tokens.verify({ token: exchange.token.token }))).toMatchObject({
      valid: true,
    });
    // The feed goes on past the next event about signing keys, too.
    engine.clock.advance(1);
    await engine.auth.tokens.rotateSigningKey('Ed25519');
    engine.clock.advance(1);
    expect(await fresh.verify({ key: made.key })).toMatchObject({ valid: true });
  });
});

const CUT = 'update signing_keys set sealed = substr(sealed, 1, 50) where kid = ?';

describe('a damaged one', () => {
  const damaged = async (engine: TestEngine, kid: string) => {
    const [row] = await engine.sql('select * from signing_keys where kid = ?', kid);
    const { sealed } = row as unknown as SigningKeyRow;
    await engine.sql(CUT, kid);
    const restore = () => engine.sql('update signing_keys set sealed = ? where kid = ?', sealed, kid);
    return { auth: await engine.openAgain(), restore };
  };

  test.each([
    ['by itself', async (engine: TestEngine, kid: string) => ({ kid, engine })],
    [
      'with one of its algorithm that somebody may know',
      async (engine: TestEngine) => ({
        kid: engine.auth.tokens.signingKeys().find((one) => one.algorithm === 'ES256' && one.state === 'standby')?.kid,
        engine,
      }),
    ],
  ])('can be retired %s, and does not sign when its row is restored', async (how, named) => {
    await using engine = await openTestEngine();
    const { token, kid } = await tokenOf(engine);
    const target = (await named(engine, kid)).kid ?? '';
    const { auth, restore } = await damaged(engine, kid);
    await auth.tokens.retireSigningKey(target, { compromised: how !== 'by itself' });
    await restore();
    const fresh = await engine.openAgain();
    expect(fresh.tokens.signingKeys().map((one) => one.kid)).not.toContain(kid);
    expect(await fresh.tokens.verify({ token })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
    const { items } = await fresh.events.list('system', { type: 'signing_key.retired' });
    expect(items.map(({ subject }) => subject.id)).toContain(kid);
  });

  test('is listed, so that whoever is to retire it finds it, and no more once it is retired', async () => {
    await using engine = await openTestEngine();
    const { kid } = await tokenOf(engine);
    const { auth } = await damaged(engine, kid);
    expect(auth.tokens.signingKeys().at(-1)).toEqual({ kid, algorithm: 'ES256', quarantined: true });
    expect(auth.tokens.jwks().keys.map((key) => key['kid'])).not.toContain(kid);
    await engine.sql(`update signing_keys set public_jwk = '{}' where kid = ?`, kid);
    const fresh = await engine.openAgain();
    expect(fresh.tokens.signingKeys().at(-1)).toEqual({ kid, quarantined: true });
    await fresh.tokens.retireSigningKey(kid);
    expect(fresh.tokens.signingKeys().map((one) => one.kid)).not.toContain(kid);
  });

  test('is of the algorithm of its public key, whatever its row says: that ends with it, and no other', async () => {
    await using engine = await openTestEngine();
    const { kid } = await tokenOf(engine);
    const of = ({ tokens }: Pick<TestEngine['auth'], 'tokens'>, wanted: string): readonly string[] =>
      tokens.signingKeys().flatMap((one) => (one.algorithm === wanted ? [one.kid] : []));
    const [before, others] = [of(engine.auth, 'ES256'), of(engine.auth, 'RS256')];
    await engine.sql(`update signing_keys set algorithm = 'RS256' where kid = ?`, kid);
    const auth = await engine.openAgain();
    await auth.tokens.retireSigningKey(kid, { compromised: true });
    expect(of(auth, 'ES256').filter((one) => before.includes(one))).toEqual([]);
    expect(of(auth, 'RS256')).toEqual(others);
  });

  test('whose row says another algorithm ends with those of its own, and signs no more when its row is restored', async () => {
    await using engine = await openTestEngine();
    const { token, kid } = await tokenOf(engine);
    const standby = engine.auth.tokens.signingKeys().find((one) => one.algorithm === 'ES256' && one.kid !== kid);
    await engine.sql(`update signing_keys set algorithm = 'RS256' where kid = ?`, kid);
    const auth = await engine.openAgain();
    await auth.tokens.retireSigningKey(standby?.kid ?? '', { compromised: true });
    await engine.sql(`update signing_keys set algorithm = 'ES256' where kid = ?`, kid);
    const fresh = await engine.openAgain();
    expect(await fresh.tokens.verify({ token })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
  });

  test('whose algorithm cannot be read is refused as the compromised key, and ends with any other that is', async () => {
    await using engine = await openTestEngine();
    const { kid } = await tokenOf(engine);
    await engine.sql(`update signing_keys set public_jwk = '{}', sealed = substr(sealed, 1, 50) where kid = ?`, kid);
    const auth = await engine.openAgain();
    const compromised = true;
    expect(await refusalOf(auth.tokens.retireSigningKey(kid, { compromised }))).toMatchObject({
      code: 'not_allowed',
      field: 'kid',
    });
    const other = auth.tokens.signingKeys().find(({ algorithm }) => algorithm === 'ES256');
    await auth.tokens.retireSigningKey(other?.kid ?? '', { compromised });
    const { items } = await auth.events.list('system', { type: 'signing_key.retired', subjectId: kid });
    expect(items).toHaveLength(1);
  });

  test('is followed by the standby key, also on one of several processes that start at once', async () => {
    await using engine = await openTestEngine();
    const { kid } = await tokenOf(engine);
    const standby = engine.auth.tokens
      .signingKeys()
      .find((one) => one.algorithm === 'ES256' && one.state === 'standby');
    await engine.sql(CUT, kid);
    const nodes = await Promise.all([engine.openAgain(), engine.openAgain(), engine.openAgain()]);
    for (const { tokens } of nodes) await tokens.rotateSigningKey('Ed25519');
    const of = nodes[0].tokens.signingKeys().filter(({ algorithm }) => algorithm === 'ES256');
    expect(of.find(({ state }) => state === 'signing')?.kid).toBe(standby?.kid);
    expect(of.filter(({ state }) => state === 'previous')).toEqual([]);
  });
});

test('if no key of an algorithm signs, the job lets the standby key sign', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { kid } = await tokenOf(engine);
  const standby = auth.tokens.signingKeys().find((one) => one.algorithm === 'ES256' && one.state === 'standby');
  await engine.sql('update signing_keys set retired_at = 1 where kid = ?', kid);
  // The job waits while the clock may be wrong, and the clock of a test engine begins years after its database.
  clock.advance(DAY_MS);
  await untilRuns(clock, [auth], 'signing-key-rotation', 2);
  const states = auth.tokens.signingKeys().filter(({ algorithm }) => algorithm === 'ES256');
  expect(states.find(({ state }) => state === 'signing')?.kid).toBe(standby?.kid);
  expect(states.map(({ state }) => state).toSorted()).toEqual(['signing', 'standby']);
});

test('a load that ends after a younger one changes nothing', async () => {
  await using engine = await openTestEngine();
  const stored = (await engine.sql('select * from signing_keys')) as unknown as SigningKeyRow[];
  const answers: ((rows: readonly SigningKeyRow[]) => void)[] = [];
  const opened: string[] = [];
  const keyring = new SigningKeyring({
    rows: { all: () => new Promise((resolve) => void answers.push(resolve)) } as SigningKeyRows,
    ledger: {} as Ledger,
    events: {} as EventCodec,
    sealer: {
      open: async ({ rowId }: EncryptionContext) => {
        opened.push(rowId);
        throw new PantheonError('key_quarantined');
      },
    } as unknown as Sealer,
    clock: new TestClock(),
    onQuarantine: () => opened.push('told'),
  });
  const older = keyring.reset();
  const younger = keyring.reset();
  answers[1]?.([]);
  await younger;
  answers[0]?.(stored);
  await older;
  // The older one did find them, and did not bring them back.
  expect(opened).toHaveLength(6);
  expect(keyring.verifier(String(stored[0]?.kid))).toBeNull();
  expect((await refusalOf(() => keyring.signer('ES256'))).code).toBe('signing_key_unavailable');
});

test('the number of signing keys of an algorithm is bounded, so that none is removed from memory by a newer one', async () => {
  await using engine = await openTestEngine();
  const { tokens } = engine.auth;
  const { kid } = await tokenOf(engine);
  const add = () => rotated(engine);
  while (kids(engine).length < 100) if ((await add().catch(() => null)) === null) break;
  expect(await refusalOf(add())).toMatchObject({ code: 'not_allowed', field: 'algorithm' });
  expect(kids(engine)).toContain(kid);
  // Another algorithm has its own room, and who retires one makes room.
  await tokens.rotateSigningKey('Ed25519');
  await tokens.retireSigningKey(kid);
  await add();
  // The job does so too, and then rotates.
  const signing = (await tokenOf(engine)).kid;
  engine.clock.advance(90 * DAY_MS);
  await untilRuns(engine.clock, [engine.auth], 'signing-key-rotation', 3);
  expect(stateOf(engine, signing)).toBe('previous');
});
