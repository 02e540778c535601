import { decodeJwt } from 'jose';
import { describe, expect, test, vi } from 'vitest';
import { callerBy, callerFor } from '../../test/callers.ts';
import { refusalOf } from '../../test/refusal-of.ts';
import { ISSUER, openTestEngine, type TestEngine } from '../../test/test-engine.ts';
import { PROCESS_CALLER } from '../domain/caller.ts';
import type { KeyRecord } from '../domain/key.ts';
import type { Caller } from '../domain/key-policy.ts';
import { EventCodec } from '../events/event-codec.ts';
import { HOUR_MS, SECOND_MS } from '../foundation/clock.ts';
import { ReadTurns } from '../foundation/read-turns.ts';
import { TokenIssues } from '../jwt/token-issues.ts';
import type { PantheonAuth } from '../pantheon-auth.ts';
import { TestClock } from '../testing/test-clock.ts';
import { ACTED_ON_NAMED_MAX, type ActedOn, LOOKS_MAX } from './acted-on-keys.ts';
import type { Administrators } from './administrators.ts';
import { ACTS_READ_MAX, KeyActs } from './key-acts.ts';
import { KeyChanges } from './key-changes.ts';
import type { KeyDescendants } from './key-descendants.ts';
import type { CreateKeyInput } from './key-input.ts';
import { CASCADE_MAX_MS, KeyRevocation, type RevokeOptions } from './key-revocation.ts';

const ADMINISTRATOR = { userId: 'a', name: 'administrator', permissions: ['pantheon:*'], grantable: ['*'] };
const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

const system = (auth: PantheonAuth) => auth.tenant('system').keys;
const codeOf = async (work: Promise<unknown> | (() => unknown)): Promise<string> => (await refusalOf(work)).code;

async function administrator({ auth }: TestEngine, over: Partial<CreateKeyInput> = {}, by?: Caller) {
  const { key, apiKey } = await system(auth).create({ ...ADMINISTRATOR, ...over }, by === undefined ? {} : { by });
  return { id: apiKey.id, key };
}

const didOf = (actedOn: ActedOn | undefined) =>
  Object.fromEntries((actedOn?.items ?? []).map(({ keyId, did, revoked }) => [keyId, [...did, revoked]]));

const stateOf = async (auth: PantheonAuth, tenantId: string, id: string): Promise<string> =>
  (await auth.tenant(tenantId).keys.get(id)).state;

describe('a key that a stolen administrator acted on', () => {
  /** A stolen key, and what it did: in its own tenant, in others, and through a key that it made. */
  async function scene(engine: TestEngine) {
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    await administrator(engine);
    const [rotated, updated, resumed, before] = [
      await administrator(engine, { name: 'rotated' }),
      (await auth.keys.create(INPUT)).apiKey.id,
      (await auth.tenant('acme').keys.create(INPUT)).apiKey.id,
      (await auth.keys.create(INPUT)).apiKey.id,
    ];
    // What the rotated key did before it was rotated was done by its owner.
    await auth.keys.update(before, { name: 'by its owner' }, { by: await callerFor(auth, rotated.key) });
    const untouched = [before, (await auth.keys.create(INPUT)).apiKey.id];
    await auth.tenant('acme').keys.suspend(resumed);

    const stolen = await administrator(engine, { name: 'stolen' });
    const by = await callerFor(auth, stolen.key);
    const child = await administrator(engine, { name: 'child' }, by);
    const { key: taken } = await auth.tenant('system').rotation.rotate(rotated.id, {}, { by });
    await auth.keys.update(updated, { permissions: ['docs:*'] }, { by });
    await auth.tenant('acme').keys.resume(resumed, { by });
    await auth.keys.suspend(untouched[1] ?? '', { by });
    await auth.keys.create(INPUT, { by, idempotencyKey: 'once' });
    const repeated = (await auth.keys.create(INPUT, { by, idempotencyKey: 'once' })).apiKey.id;
    // A step further: by the child, and by the key whose new secret the thief has.
    const byChild = (await auth.keys.create(INPUT)).apiKey.id;
    await auth.keys.update(byChild, { name: 'by the child' }, { by: await callerFor(auth, child.key) });
    const grandchild = (await auth.keys.create(INPUT, { by: await callerFor(auth, taken) })).apiKey.id;
    return { stolen, child, rotated, updated, resumed, repeated, byChild, grandchild, untouched };
  }

  test('is listed with what was done to it if the cascade revokes only what was created', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { stolen, child, rotated, updated, resumed, repeated, byChild, grandchild } = await scene(engine);
    const { actedOn } = await system(auth).revoke(stolen.id, { cascade: true });
    expect(actedOn?.complete).toBe(true);
    expect(didOf(actedOn)).toEqual({
      [rotated.id]: ['rotated', false],
      [updated]: ['updated', false],
      [resumed]: ['resumed', false],
      [byChild]: ['updated', false],
    });
    expect(actedOn?.items.find(({ keyId }) => keyId === resumed)).toMatchObject({ tenantId: 'acme' });
    for (const [tenantId, id] of [
      ['system', child.id],
      ['default', repeated],
    ] as const)
      expect(await stateOf(auth, tenantId, id)).toBe('revoked');
    expect(await stateOf(auth, 'default', grandchild)).toBe('active');
  });

  test('is revoked with cascade=acted, and what it did itself since then; what it did before stays', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { stolen, rotated, updated, resumed, byChild, grandchild, untouched } = await scene(engine);
    await auth.keys.resume(untouched[1] ?? '');
    const { actedOn } = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    expect(didOf(actedOn)).toEqual({
      [rotated.id]: ['rotated', true],
      [updated]: ['updated', true],
      [resumed]: ['resumed', true],
      [byChild]: ['updated', true],
      [grandchild]: ['created', true],
    });
    for (const id of [updated, byChild, grandchild]) expect(await stateOf(auth, 'default', id)).toBe('revoked');
    expect(await stateOf(auth, 'acme', resumed)).toBe('revoked');
    for (const id of untouched) expect(await stateOf(auth, 'default', id)).toBe('active');
    // Again, when there is nothing left.
    expect((await system(auth).revoke(stolen.id, { cascade: 'acted' })).actedOn).toEqual({ items: [], complete: true });
  });

  test('is found later: a key that was revoked alone is revoked again with cascade', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { stolen, updated } = await scene(engine);
    expect(await system(auth).revoke(stolen.id)).not.toHaveProperty('actedOn');
    const { actedOn } = await system(auth).revoke(stolen.id, { cascade: true });
    expect(didOf(actedOn)).toMatchObject({ [updated]: ['updated', false] });
  });

  test('is never revoked if it is the caller, or the last administrator: these are listed as they are', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const stolen = await administrator(engine);
    const mine = await administrator(engine);
    const by = await callerFor(auth, mine.key);
    const byStolen = await callerFor(auth, stolen.key);
    await system(auth).update(mine.id, { name: 'mine' }, { by: byStolen });
    const asked = await system(auth).revoke(stolen.id, { by, cascade: 'acted' });
    expect(didOf(asked.actedOn)).toEqual({ [mine.id]: ['updated', false] });
    // By the process itself: it is the last one now.
    const again = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    expect(didOf(again.actedOn)).toEqual({ [mine.id]: ['updated', false] });
    expect(await stateOf(auth, 'system', mine.id)).toBe('active');
    const forced = await system(auth).revoke(stolen.id, { cascade: 'acted', force: true });
    expect(didOf(forced.actedOn)).toEqual({ [mine.id]: ['updated', true] });
  });

  test('of another tenant is neither listed nor revoked', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.tenants.create({ id: 'acme' });
    const manager = { ...INPUT, permissions: ['pantheon:keys:*', 'docs:read'], grantable: ['docs:*'] };
    const { key, apiKey } = await auth.tenant('acme').keys.create(manager);
    const { id } = (await auth.tenant('acme').keys.create(INPUT)).apiKey;
    await auth.tenant('acme').keys.update(id, { name: 'other' }, { by: await callerFor(auth, key) });
    // An entry of the log that names it as the actor elsewhere, as none of ours does.
    const elsewhere = (await auth.keys.create(INPUT)).apiKey.id;
    const acts = vi.spyOn(EventCodec.prototype, 'actsOnKeys').mockImplementationOnce(async () => [
      { seq: 1, at: 0, type: 'key.updated', tenantId: 'acme', keyId: id },
      { seq: 2, at: 0, type: 'key.updated', tenantId: 'default', keyId: elsewhere },
    ]);
    try {
      const { actedOn } = await auth.tenant('acme').keys.revoke(apiKey.id, { cascade: 'acted' });
      expect(didOf(actedOn)).toEqual({ [id]: ['updated', true] });
    } finally {
      acts.mockRestore();
    }
    expect(await stateOf(auth, 'default', elsewhere)).toBe('active');
  });

  test('is listed and revoked if it is damaged', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { stolen, updated } = await scene(engine);
    await engine.sql(`update api_keys set name = 'x' where id = ?`, updated);
    const named = await system(auth).revoke(stolen.id, { cascade: true });
    expect(didOf(named.actedOn)).toMatchObject({ [updated]: ['updated', false] });
    const taken = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    expect(didOf(taken.actedOn)).toMatchObject({ [updated]: ['updated', true] });
    expect(await stateOf(auth, 'default', updated)).toBe('revoked');
  });

  test('is missing from a list that is reported as cut at its bound, and the event loop turns meanwhile', async () => {
    const asked: number[] = [];
    let turns = 0;
    let isOver = false;
    const turning = async (): Promise<void> => {
      for (; !isOver; turns += 1) await new Promise((resolve) => setImmediate(resolve));
    };
    const events = {
      actsOnKeys: async ({ after, limit }: { after: number; limit: number }) => {
        asked.push(after);
        return Array.from({ length: limit }, (_, at) => {
          const seq = after + at + 1;
          return { seq, type: 'key.updated' as const, tenantId: 'default', keyId: `key-${seq}` };
        });
      },
    } as unknown as EventCodec;
    const watching = turning();
    const touched = await new KeyActs({
      events,
      readTurns: new ReadTurns({ atOnceMax: 1, clock: new TestClock() }),
    }).of('stolen', 'created', {
      group: 'default',
      member: 'administrator',
    });
    isOver = true;
    await watching;
    expect(touched.isComplete).toBe(false);
    expect(touched.keys).toHaveLength(ACTS_READ_MAX);
    expect(turns).toBeGreaterThanOrEqual(asked.length - 1);
  });

  test('is one of a bounded number per call; the answer says so, and a repeated call continues', async () => {
    const count = ACTED_ON_NAMED_MAX + 3;
    const alive = new Set(Array.from({ length: count }, (_, at) => `key-${at}`));
    const did = new Set(['updated'] as const);
    const keys = [...alive].map((keyId) => ({ keyId, tenantId: 'default', did, tokenIssued: null }));
    const recordOf = (id: string) => ({ state: { kind: alive.has(id) ? 'active' : 'revoked' } }) as KeyRecord;
    const changes = {
      load: async (_tenantId: string, id: string) => ({ record: recordOf(id) }),
      revoke: async ({ keyId }: { readonly keyId: string }) => {
        alive.delete(keyId);
        return recordOf(keyId);
      },
    } as unknown as KeyChanges;
    const revocation = new KeyRevocation({
      changes,
      administrators: {} as Administrators,
      descendants: { revoke: async () => true } as unknown as KeyDescendants,
      acts: { of: async () => ({ keys, isComplete: true }) } as unknown as KeyActs,
      clock: new TestClock(),
    });
    const { auditContext } = PROCESS_CALLER;
    const ending = {
      tenantId: 'default',
      keyId: 'stolen',
      by: PROCESS_CALLER,
      auditContext,
      isSelf: false,
      force: false,
    };
    const first = (await revocation.end({ ...ending, cascade: 'acted' })).actedOn;
    expect([first?.items.length, first?.complete, alive.size]).toEqual([ACTED_ON_NAMED_MAX, false, 3]);
    const second = (await revocation.end({ ...ending, cascade: 'acted' })).actedOn;
    expect([second?.items.length, second?.complete, alive.size]).toEqual([3, true, 0]);
  });
});

/** Does what a thief does as soon as the log has been read: once, the next time. */
function afterNextLook(act: () => Promise<unknown>): Disposable {
  const of = KeyActs.prototype.of;
  const spy = vi.spyOn(KeyActs.prototype, 'of').mockImplementationOnce(async function (this: KeyActs, ...asked) {
    const touched = await of.apply(this, asked);
    await act();
    return touched;
  });
  return { [Symbol.dispose]: () => spy.mockRestore() };
}

describe('a thief who creates keys during the cascade', () => {
  const MAKER = { ...INPUT, permissions: ['pantheon:keys:*', 'docs:read'], grantable: ['docs:*'] };

  test('is found: what a key creates before it is revoked is revoked too, and what that creates', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await administrator(engine);
    const stolen = await administrator(engine, { name: 'stolen' });
    const { id } = (await auth.keys.create(MAKER)).apiKey;
    const { key } = await auth.rotation.rotate(id, {}, { by: await callerFor(auth, stolen.key) });
    const made: string[] = [];
    const make = async (): Promise<void> => {
      const child = await auth.keys.create(INPUT, { by: await callerFor(auth, key) });
      made.push(child.apiKey.id);
    };
    using _thief = afterNextLook(make);
    const { actedOn } = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    expect(actedOn).toMatchObject({ complete: true });
    expect(actedOn?.items.map(({ keyId, revoked }) => [keyId, revoked])).toEqual([
      [id, true],
      [made[0], true],
    ]);
    expect(await stateOf(auth, 'default', made[0] ?? '')).toBe('revoked');
  });

  test('and is faster each time: the answer says that it is not complete, and how to continue', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await administrator(engine);
    const stolen = await administrator(engine, { name: 'stolen' });
    const by = await callerFor(auth, stolen.key);
    const keys = await Promise.all(Array.from({ length: LOOKS_MAX + 1 }, () => auth.keys.create(INPUT)));
    for (const { apiKey } of keys) await auth.keys.update(apiKey.id, { name: 'touched' }, { by });
    const of = KeyActs.prototype.of;
    let looks = 0;
    const spy = vi.spyOn(KeyActs.prototype, 'of').mockImplementation(async function (this: KeyActs, ...asked) {
      looks += 1;
      const touched = await of.apply(this, asked);
      return { ...touched, keys: touched.keys.slice(0, looks) };
    });
    try {
      const { actedOn } = await system(auth).revoke(stolen.id, { cascade: 'acted' });
      expect([looks, actedOn?.items.length, actedOn?.complete]).toEqual([LOOKS_MAX, LOOKS_MAX, false]);
    } finally {
      spy.mockRestore();
    }
    const { actedOn } = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    expect([actedOn?.items.length, actedOn?.complete]).toEqual([1, true]);
  });
});

describe('a cascade ends early enough to answer how far it has come', () => {
  /** As long as each commit takes, by the clock of the cascade. */
  function slowCommits(engine: TestEngine, eachMs: number): Disposable {
    const revoke = KeyChanges.prototype.revoke;
    const spy = vi.spyOn(KeyChanges.prototype, 'revoke').mockImplementation(async function (
      this: KeyChanges,
      ...asked
    ) {
      engine.clock.advance(eachMs);
      return revoke.apply(this, asked);
    });
    return { [Symbol.dispose]: () => spy.mockRestore() };
  }

  test.each([
    ['of what it created', true],
    ['of what it acted on', 'acted'],
  ] as const)(
    '%s: complete is false, the rest stays active, and a repeated call revokes it',
    async (_what, cascade) => {
      await using engine = await openTestEngine();
      const { auth } = engine;
      await administrator(engine);
      const stolen = await administrator(engine, { name: 'stolen' });
      const by = await callerFor(auth, stolen.key);
      const ids: string[] = [];
      for (let n = 0; n < 4; n += 1) {
        const { id } = (await auth.keys.create(INPUT, cascade === true ? { by } : {})).apiKey;
        if (cascade === 'acted') await auth.keys.update(id, { name: 'touched' }, { by });
        ids.push(id);
      }
      const living = async (): Promise<number> =>
        (await Promise.all(ids.map((id) => stateOf(auth, 'default', id)))).filter((one) => one === 'active').length;
      {
        using _slow = slowCommits(engine, (2 * CASCADE_MAX_MS) / 5);
        const { actedOn, state } = await system(auth).revoke(stolen.id, { cascade });
        expect([state, actedOn?.complete, await living()]).toEqual(['revoked', false, 2]);
      }
      const { actedOn } = await system(auth).revoke(stolen.id, { cascade });
      expect([actedOn?.complete, await living()]).toEqual([true, 0]);
    },
  );
});

describe('tokens that a stolen administrator had issued for other keys', () => {
  async function scene(engine: TestEngine) {
    const { auth } = engine;
    await administrator(engine);
    const stolen = await administrator(engine, { name: 'stolen' });
    const by = await callerFor(auth, stolen.key);
    const { apiKey, key } = await auth.keys.create({ ...INPUT, permissions: ['docs:read', 'pantheon:keys:create'] });
    const target = { tenantId: 'default', keyId: apiKey.id };
    const issue = async () => {
      const { token } = await auth.tokens.issue(target, { permissions: [...apiKey.permissions] }, { by });
      return token;
    };
    return { stolen, by, id: apiKey.id, key, target, issue };
  }
  const isGood = async ({ auth }: TestEngine, token: string) => (await auth.tokens.verify({ token })).valid;

  test('are in the log, by their id only, as events of the key that they are for', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { stolen, id, target, issue } = await scene(engine);
    const token = await issue();
    await auth.tokens.issue(target);
    const { items } = await auth.events.list('default', { type: 'key.token_issued' });
    expect(items).toMatchObject([
      {
        subject: { type: 'key', id },
        actor: { keyId: stolen.id },
        before: null,
        after: { tokenId: decodeJwt(token).jti, version: 1, expiresAt: expect.stringMatching(/Z$/) },
      },
    ]);
    expect(await engine.stored()).not.toContain(token.slice(-40));
  });

  test('are listed by the cascade, and revoked with cascade=acted; their key and what it does itself stay', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { stolen, id, key, issue } = await scene(engine);
    const token = await issue();
    const item = { keyId: id, tenantId: 'default', did: ['token_issued'], revoked: false };
    const named = await system(auth).revoke(stolen.id, { cascade: true });
    expect(named.actedOn).toEqual({ items: [{ ...item, tokensRevoked: false }], complete: true });
    expect(await isGood(engine, token)).toBe(true);
    const taken = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    expect(taken.actedOn).toEqual({ items: [{ ...item, tokensRevoked: true }], complete: true });
    expect([await isGood(engine, token), (await auth.verify({ key })).valid]).toEqual([false, true]);
    // Again, when there is nothing left, also while tokens of that second could still be accepted.
    expect((await system(auth).revoke(stolen.id, { cascade: 'acted' })).actedOn).toEqual({ items: [], complete: true });
    const exchange = await auth.tokens.exchange({ key });
    expect(exchange.issued && (await isGood(engine, exchange.token.token))).toBe(true);
  });

  test('are not listed once none of them can be accepted any more', async () => {
    await using engine = await openTestEngine();
    const { stolen, issue } = await scene(engine);
    await issue();
    engine.clock.advance(25 * HOUR_MS);
    const { actedOn } = await system(engine.auth).revoke(stolen.id, { cascade: 'acted' });
    expect(actedOn).toEqual({ items: [], complete: true });
  });

  test('are followed: what was created with one is revoked, and so is a key that was changed with one', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { stolen, by, id, issue } = await scene(engine);
    const asToken = await callerBy(auth, await issue(), [ISSUER]);
    const made = await auth.keys.create({ ...INPUT, permissions: [], expiresIn: '1m' }, { by: asToken });
    const { apiKey: other } = await auth.keys.create(INPUT);
    await auth.tokens.issue({ tenantId: 'default', keyId: other.id }, {}, { by });
    await auth.keys.update(other.id, { name: 'touched' }, { by });
    const { actedOn } = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    expect(didOf(actedOn)).toEqual({
      [id]: ['token_issued', false],
      [made.apiKey.id]: ['created', true],
      [other.id]: ['token_issued', 'updated', true],
    });
  });

  test('and issued during the cascade, within the second of a revocation, are reported as active', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { stolen, by, id, target, issue } = await scene(engine);
    const { key } = await auth.tenant('system').rotation.rotate((await administrator(engine)).id, {}, { by });
    await issue();
    const thief = await callerFor(auth, key);
    const of = KeyActs.prototype.of;
    let token = '';
    // The tokens of the first look are ended before the rotated key is, which makes another one between the two.
    const spy = vi.spyOn(KeyActs.prototype, 'of').mockImplementationOnce(async function (this: KeyActs, ...asked) {
      const { keys, isComplete } = await of.apply(this, asked);
      return { keys: keys.toSorted((one) => (one.keyId === id ? -1 : 1)), isComplete };
    });
    const change = KeyChanges.prototype.change;
    const after = vi.spyOn(KeyChanges.prototype, 'change').mockImplementationOnce(async function (
      this: KeyChanges,
      ...asked
    ) {
      const record = await change.apply(this, asked);
      token = (await auth.tokens.issue(target, {}, { by: thief })).token;
      return record;
    });
    const { actedOn } = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    for (const one of [spy, after]) one.mockRestore();
    expect(actedOn?.items.find(({ keyId }) => keyId === id)).toMatchObject({ tokensRevoked: false });
    engine.clock.advance(2 * SECOND_MS);
    expect(await isGood(engine, token)).toBe(true);
    const again = await system(auth).revoke(stolen.id, { cascade: 'acted' });
    expect(again.actedOn?.items).toMatchObject([{ keyId: id, tokensRevoked: true }]);
    expect(await isGood(engine, token)).toBe(false);
  });

  test('are not issued for a key, or by one, that has ended in the meantime', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { by, target, id, stolen } = await scene(engine);
    const commit = TokenIssues.prototype.commit;
    for (const [end, code] of [
      [() => auth.keys.suspend(id), 'not_allowed'],
      [() => system(auth).revoke(stolen.id), 'revoked'],
    ] as const) {
      await auth.keys.resume(id);
      const spy = vi.spyOn(TokenIssues.prototype, 'commit').mockImplementationOnce(async function (
        this: TokenIssues,
        ...asked
      ) {
        await end();
        return commit.apply(this, asked);
      });
      expect(await codeOf(auth.tokens.issue(target, {}, { by }))).toBe(code);
      spy.mockRestore();
    }
    expect((await auth.events.list('default', { type: 'key.token_issued' })).items).toEqual([]);
  });
});

describe('a cascade continues only while its caller may revoke', () => {
  test('if the caller is revoked in the middle, the rest stays active', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await administrator(engine);
    const mine = await administrator(engine);
    const parent = await administrator(engine);
    const byParent = await callerFor(auth, parent.key);
    const children: string[] = [];
    for (let n = 0; n < 6; n += 1) children.push((await auth.keys.create(INPUT, { by: byParent })).apiKey.id);
    const by = await callerFor(auth, mine.key);
    let seen = 0;
    const toRows = EventCodec.prototype.toRows;
    // The moment cannot be hit from outside.
    const spy = vi.spyOn(EventCodec.prototype, 'toRows').mockImplementation(async function (this: EventCodec, events) {
      if (events[0].type === 'key.revoked' && events[0].actor.keyId === mine.id) {
        seen += 1;
        if (seen === 3) await system(auth).revoke(mine.id);
      }
      return toRows.call(this, events);
    });
    try {
      expect(await codeOf(system(auth).revoke(parent.id, { by, cascade: true }))).toBe('revoked');
    } finally {
      spy.mockRestore();
    }
    const states = await Promise.all(children.map((id) => stateOf(auth, 'default', id)));
    expect(states.filter((state) => state === 'revoked')).toHaveLength(1);
  });

  test('unless the cascade revoked the key of the caller itself', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await administrator(engine);
    const parent = await administrator(engine);
    const byParent = await callerFor(auth, parent.key);
    const ids: string[] = [];
    for (let n = 0; n < 2; n += 1) ids.push((await auth.keys.create(INPUT, { by: byParent })).apiKey.id);
    const child = await administrator(engine, {}, byParent);
    for (let n = 0; n < 2; n += 1) ids.push((await auth.keys.create(INPUT, { by: byParent })).apiKey.id);
    await system(auth).revoke(parent.id, { by: await callerFor(auth, child.key), cascade: true });
    expect(await stateOf(auth, 'system', child.id)).toBe('revoked');
    for (const id of ids) expect(await stateOf(auth, 'default', id)).toBe('revoked');
  });
});

describe('force', () => {
  type Change = (auth: PantheonAuth, id: string, options: RevokeOptions) => Promise<unknown>;
  const CHANGES: Readonly<Record<string, Change>> = {
    revoke: (auth, id, options) => system(auth).revoke(id, options),
    suspend: (auth, id, options) => system(auth).suspend(id, options),
    update: (auth, id, options) => system(auth).update(id, { permissions: [] }, options),
  };

  test.each(Object.entries(CHANGES))('%s with force needs a permission of its own', async (_name, change) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const manager = { permissions: ['pantheon:keys:update', 'pantheon:keys:revoke'] };
    const { key } = await system(auth).create({ userId: 'm', name: 'manager', ...manager, grantable: ['*'] });
    const by = await callerFor(auth, key);
    const target = (await system(auth).create(INPUT)).apiKey.id;
    expect(await refusalOf(change(auth, target, { by, force: true }))).toMatchObject({
      code: 'insufficient_permissions',
      detail: 'The permission pantheon:keys:force is missing.',
    });
    await change(auth, target, { by });
    const last = await administrator(engine);
    // One that may do it, and does not count as one that remains.
    const bound = await callerFor(auth, (await administrator(engine, { ipAllowlist: ['192.0.2.1'] })).key);
    expect(await codeOf(change(auth, last.id, { by: bound }))).toBe('last_administrator');
    // pantheon:* covers it.
    await change(auth, last.id, { by: bound, force: true });
  });
});

describe('a key without all rights of an administrator does not count as one', () => {
  test.each([
    ['of the test environment', { environment: 'test' }],
    ['that expires in two seconds', { expiresIn: '2s' }],
    ['that is bound to an address', { ipAllowlist: ['192.0.2.1'] }],
    ['that is not active yet', { notBefore: '2040-01-01T00:00:00Z' }],
    ['with a quota', { quota: { limit: 1, period: 'month' } }],
    ['with hardly any uses', { rateLimits: [{ name: 'slow', limit: 1, window: '1h' }] }],
  ] as const)('one %s', async (_what, over) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const root = await administrator(engine);
    for (let n = 0; n < 3; n += 1) await administrator(engine, over as Partial<CreateKeyInput>);
    expect(await codeOf(system(auth).revoke(root.id))).toBe('last_administrator');
    expect(await codeOf(system(auth).suspend(root.id))).toBe('last_administrator');
    const limits = over as Partial<CreateKeyInput>;
    if (limits.environment === undefined)
      expect(await codeOf(system(auth).update(root.id, limits as never))).toBe('last_administrator');
    await administrator(engine);
    expect(await system(auth).revoke(root.id)).toMatchObject({ state: 'revoked' });
  });
});

describe('a superseded version', () => {
  const SELF = { ...INPUT, permissions: ['pantheon:keys:*', 'pantheon:tokens:*'], rotation: { overlap: '1h' } };

  test('neither revokes nor changes its key; the current one does', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create(SELF);
    const { id } = apiKey;
    const { key: current } = await auth.rotation.rotate(id);
    const target = { tenantId: 'default', keyId: id };
    const attempts: Readonly<Record<string, (by: Caller) => Promise<unknown>>> = {
      'self/revoke': (by) => auth.keys.revokeSelf(by),
      'self/rotate': (by) => auth.rotation.rotateSelf(by, { expectedVersion: 2 }),
      revoke: (by) => auth.keys.revoke(id, { by }),
      suspend: (by) => auth.keys.suspend(id, { by }),
      update: (by) => auth.keys.update(id, { name: 'mine' }, { by }),
      rotate: (by) => auth.rotation.rotate(id, { expectedVersion: 2 }, { by }),
      'tokens.revoke': (by) => auth.tokens.revoke({ ...target, tokenId: 't', expiresAt: 0 }, { by }),
      'tokens.revokeAllOf': (by) => auth.tokens.revokeAllOf(target, { by }),
    };
    const before = await engine.sql('select seq from log_head');
    for (const via of ['api_key', 'token'] as const) {
      const by = await callerFor(auth, key, via);
      for (const [name, attempt] of Object.entries(attempts)) {
        const isForStringsOnly = via === 'token' && (name.startsWith('self') || name === 'rotate');
        const expected = isForStringsOnly ? 'not_allowed' : 'version_conflict';
        expect(await codeOf(() => attempt(by)), `${name} by ${via}`).toMatch(
          name === 'update' && via === 'token' ? /^(version_conflict|not_grantable)$/ : expected,
        );
      }
    }
    expect(await engine.sql('select seq from log_head')).toEqual(before);
    expect((await refusalOf(auth.keys.revokeSelf(await callerFor(auth, key)))).detail).toMatch(/current version/);
    expect(await auth.keys.revokeSelf(await callerFor(auth, current))).toMatchObject({ state: 'revoked' });
  });

  test('may retire itself, and no other version', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { key, apiKey } = await auth.keys.create(SELF);
    const { key: second } = await auth.rotation.rotate(apiKey.id);
    const { key: third } = await auth.rotation.rotate(apiKey.id, { expectedVersion: 2, overlap: '1h' });
    expect(await auth.verify({ key })).toMatchObject({ valid: false });
    const by = await callerFor(auth, second);
    expect(await codeOf(auth.rotation.retire(apiKey.id, 1, { by }))).toBe('version_conflict');
    expect(await auth.rotation.retire(apiKey.id, 2, { by })).toMatchObject({ state: 'retired' });
    expect(await auth.verify({ key: second })).toMatchObject({ denial: { code: 'version_retired' } });
    expect(await auth.verify({ key: third })).toMatchObject({ valid: true });
  });
});
