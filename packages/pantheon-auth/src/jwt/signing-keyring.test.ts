import { decodeProtectedHeader } from 'jose';
import { describe, expect, test, vi } from 'vitest';
import { callerFor } from '../../test/caller-for.ts';
import { callerWith, keyAndCaller, openWorld, refusalOf, type World } from '../../test/fixture.ts';
import type { ChangeOptions } from '../commands/caller.ts';
import type { Caller } from '../domain/key-policy.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Ledger } from '../events/ledger.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { EncryptionContext, Sealer } from '../kms/encryption-context.ts';
import type { SigningKeyRow } from '../schema/signing-key-row.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { SigningKeyRows } from './signing-key-rows.ts';
import { SIGNING_ALGORITHMS, SigningKeyring } from './signing-keyring.ts';

async function tokenOf(world: World, algorithm: 'ES256' | 'Ed25519' | 'RS256' = 'ES256') {
  const { key } = await world.auth.keys.create({ userId: 'u', name: 'n', jwt: { algorithm } });
  const exchange = await world.auth.tokens.exchange({ key });
  const token = exchange.issued ? exchange.token.token : '';
  return { token, kid: decodeProtectedHeader(token).kid ?? '' };
}

const kids = (world: World): unknown[] => world.auth.tokens.jwks().keys.map((key) => key['kid']);
const keyIdOf = ({ authority }: Caller): string | null => (authority.kind === 'key' ? authority.keyId : null);

test('the first start makes one for each algorithm, and the next finds them', async () => {
  await using world = await openWorld();
  const algorithms = world.auth.tokens.jwks().keys.map((key) => key['alg']);
  expect(algorithms.toSorted()).toEqual([...SIGNING_ALGORITHMS].toSorted());
  const again = await world.openAgain();
  expect(again.tokens.jwks()).toEqual(world.auth.tokens.jwks());
});

test('a new one signs from then on, and the older one verifies until it is retired', async () => {
  await using world = await openWorld();
  const before = await tokenOf(world);
  world.clock.advance(1);
  const { kid } = await world.auth.tokens.addSigningKey('ES256');
  expect(kids(world)[0]).toBe(kid);
  expect((await tokenOf(world)).kid).toBe(kid);
  expect(await world.auth.tokens.verify({ token: before.token })).toMatchObject({ valid: true });
  await world.auth.tokens.retireSigningKey(before.kid);
  expect(kids(world)).not.toContain(before.kid);
  expect(await world.auth.tokens.verify({ token: before.token })).toMatchObject({ denial: { code: 'unknown' } });
  expect((await refusalOf(world.auth.tokens.retireSigningKey(before.kid))).code).toBe('not_found');
  expect((await refusalOf(world.auth.tokens.retireSigningKey('nothing'))).field).toBe('kid');
});

test('the last one of its algorithm gets a successor: there is always one that signs', async () => {
  await using world = await openWorld();
  const before = await tokenOf(world, 'Ed25519');
  await world.auth.tokens.retireSigningKey(before.kid);
  const after = await tokenOf(world, 'Ed25519');
  expect(after.kid).not.toBe(before.kid);
  expect(await world.auth.tokens.verify({ token: after.token })).toMatchObject({ valid: true });
  const { items } = await world.auth.events.list('system', { subjectType: 'signing_key', limit: 2 });
  expect(items.map(({ type }) => type)).toEqual(['signing_key.retired', 'signing_key.created']);
});

test('retired by two processes at once, it is retired, once', async () => {
  await using world = await openWorld();
  const other = await world.openAgain();
  const { kid } = await tokenOf(world);
  world.clock.advance(1);
  await world.auth.tokens.addSigningKey('ES256');
  await Promise.all([world.auth.tokens.retireSigningKey(kid), other.tokens.retireSigningKey(kid)]);
  const { items } = await world.auth.events.list('system', { type: 'signing_key.retired' });
  expect(items).toHaveLength(1);
});

describe('a caller that changes signing keys', () => {
  test('is a key of the system with the permission; for others there are none (I10), and each change names it', async () => {
    await using world = await openWorld();
    const { tokens, events } = world.auth;
    const allowed = ['pantheon:signing-keys:*'];
    const { by } = await keyAndCaller(world, 'system', { permissions: allowed });
    const reader = callerWith({ tenantId: 'system', permissions: ['pantheon:keys:*', 'pantheon:id-tags:*'] });
    const outside = callerWith({ tenantId: 'default', permissions: allowed });
    const { kid } = await tokens.addSigningKey('ES256', { by });
    const changes = [
      (options: ChangeOptions) => tokens.addSigningKey('ES256', options),
      (options: ChangeOptions) => tokens.retireSigningKey(kid, options),
    ];
    for (const change of changes) {
      expect((await refusalOf(change({ by: reader }))).code).toBe('insufficient_permissions');
      expect((await refusalOf(change({ by: outside }))).code).toBe('not_found');
    }
    expect(kids(world)).toContain(kid);
    await tokens.retireSigningKey(kid, { by });
    const { items } = await events.list('system', { subjectType: 'signing_key', limit: 2 });
    expect(items.map(({ type }) => type)).toEqual(['signing_key.retired', 'signing_key.created']);
    expect(items.map(({ actor }) => actor?.keyId)).toEqual([keyIdOf(by), keyIdOf(by)]);
  });

  test('and ends while the last one of an algorithm is being retired, leaves it as it is, without a successor', async () => {
    await using world = await openWorld();
    const { auth } = world;
    const { kid } = await tokenOf(world);
    const system = auth.tenant('system').keys;
    const { key, apiKey } = await system.create({
      userId: 'a',
      name: 'n',
      permissions: ['pantheon:signing-keys:retire'],
    });
    const by = await callerFor(auth, key);
    const other = await world.openAgain();
    // The moment cannot be hit from outside.
    const decideRetire = SigningKeyring.prototype.decideRetire;
    const spy = vi.spyOn(SigningKeyring.prototype, 'decideRetire').mockImplementation(async function (
      this: SigningKeyring,
      ...of
    ) {
      await other.tenant('system').keys.revoke(apiKey.id);
      return decideRetire.apply(this, of);
    });
    const before = kids(world);
    expect((await refusalOf(auth.tokens.retireSigningKey(kid, { by }))).code).toBe('revoked');
    spy.mockRestore();
    expect(kids(world)).toEqual(before);
  });
});

describe('a row that was changed outside of the service', () => {
  test('brings in no key: what is published comes from the sealed private half', async () => {
    await using world = await openWorld();
    const published = world.auth.tokens.jwks();
    await world.sql(`update signing_keys set public_jwk = '{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}'`);
    expect((await world.openAgain()).tokens.jwks()).toEqual(published);
  });

  test.each([
    ['its sealed part', 'update signing_keys set sealed = substr(sealed, 1, 50) where kid = ?'],
    ['its algorithm', `update signing_keys set algorithm = 'RS256' where kid = ?`],
  ])('is refused with 503, reported, and everything else goes on: %s', async (_name, sql) => {
    await using world = await openWorld();
    const { token, kid } = await tokenOf(world);
    await world.sql(sql, kid);
    const fresh = await world.openAgain();
    expect(world.logged.join()).toContain('a signing key is damaged');
    expect((await refusalOf(fresh.tokens.verify({ token }))).code).toBe('key_quarantined');
    const made = await fresh.keys.create({ userId: 'u', name: 'n' });
    const exchange = await fresh.tokens.exchange({ key: made.key });
    expect(exchange.issued && (await fresh.tokens.verify({ token: exchange.token.token }))).toMatchObject({
      valid: true,
    });
    // The feed goes on past the next event about signing keys, too.
    world.clock.advance(1);
    await world.auth.tokens.addSigningKey('Ed25519');
    world.clock.advance(1);
    expect(await fresh.verify({ key: made.key })).toMatchObject({ valid: true });
  });
});

test('a load that was overtaken by a younger one changes nothing', async () => {
  await using world = await openWorld();
  const stored = (await world.sql('select * from signing_keys')) as unknown as SigningKeyRow[];
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
  expect(opened).toHaveLength(3);
  expect(keyring.verifier(String(stored[0]?.kid))).toBeNull();
  expect((await refusalOf(() => keyring.signer('ES256'))).code).toBe('signing_secret_unavailable');
});

test('one algorithm has so many signing keys at most, so that none is pushed out of memory by a newer one', async () => {
  await using world = await openWorld();
  const { tokens } = world.auth;
  const { kid } = await tokens.addSigningKey('ES256');
  const add = () => tokens.addSigningKey('ES256');
  while (kids(world).length < 100) if ((await add().catch(() => null)) === null) break;
  expect(await refusalOf(add())).toMatchObject({ code: 'not_allowed', field: 'algorithm' });
  expect(kids(world)).toContain(kid);
  // Another algorithm has its own room, and who retires one makes room.
  await tokens.addSigningKey('Ed25519');
  await tokens.retireSigningKey(kid);
  await add();
});
