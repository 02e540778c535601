/** What somebody did to the database behind our back, and what turned up where it should not: seen from outside. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { PROCESS_ACTOR } from '../src/domain/event.ts';
import { CODES } from '../src/foundation/codes.ts';
import { openWorld, refusalOf, type World } from './fixture.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

describe('a number that cannot be believed in the row of a key', () => {
  test.each(['created_at', 'expires_at'])('%s: is 503 for that key, and the others verify', async (column) => {
    await using world = await openWorld();
    const damaged = await world.auth.keys.create(INPUT);
    const sound = await world.auth.keys.create(INPUT);
    await world.sql(`update api_keys set ${column} = 9007199254740993 where id = ?`, damaged.apiKey.id);
    for (const auth of [await world.openAgain(), world.auth]) {
      expect(await auth.verify({ key: sound.key })).toMatchObject({ valid: true });
    }
    const again = await world.openAgain();
    expect((await refusalOf(again.verify({ key: damaged.key }))).code).toBe('key_quarantined');
    expect(CODES.key_quarantined.status).toBe(503);
    expect(await again.verify({ key: sound.key })).toMatchObject({ valid: true });
  });
});

describe('a database that was tampered with', () => {
  test('without its canary is refused, and no new master key is made for it', async () => {
    await using world = await openWorld();
    await world.auth.close();
    expect(await world.sql(`delete from meta where name = 'canary' returning name`)).toHaveLength(1);
    expect((await refusalOf(world.openAgain())).code).toBe('master_key_mismatch');
    const file = join(world.dataDir, 'master.key');
    rmSync(file, { force: true });
    expect((await refusalOf(world.openAgain())).code).toBe('master_key_mismatch');
    expect(existsSync(file)).toBe(false);
    expect(await world.sql(`select * from meta where name = 'canary'`)).toEqual([]);
  });

  test('whose keys were all deleted gives no new root key', async () => {
    await using world = await openWorld();
    const written: string[] = [];
    const store = { read: () => null, write: (key: string) => void written.push(key) };
    expect(await world.auth.bootstrap(store)).not.toBeNull();
    await world.sql('delete from api_key_versions');
    await world.sql('delete from api_keys');
    for (const auth of [world.auth, await world.openAgain()]) expect(await auth.bootstrap(store)).toBeNull();
    expect(written).toHaveLength(1);
    expect(await world.sql('select id from api_keys')).toEqual([]);
  });
});

describe('a string that turned up in a URL', () => {
  const BY = { actor: { ...PROCESS_ACTOR, address: '192.0.2.9' }, requestId: 'request-1', reason: null };
  const reportsOf = async (world: World) =>
    (await world.auth.events.list('default', { type: 'key.exposed_in_url' })).items.map(({ subject }) => subject.id);

  test('is one event for each key and hour, however often it is seen', async () => {
    await using world = await openWorld();
    const { auth, clock } = world;
    const [one, two] = [await auth.keys.create(INPUT), await auth.keys.create(INPUT)];
    await Promise.all(Array.from({ length: 5 }, () => auth.reportExposed(one.key, BY)));
    clock.advance(3_599_999);
    await auth.reportExposed(one.key, BY);
    expect(await reportsOf(world)).toEqual([one.apiKey.id]);
    await auth.reportExposed(two.key, BY);
    clock.advance(1);
    await auth.reportExposed(one.key, BY);
    expect((await reportsOf(world)).toSorted()).toEqual([one.apiKey.id, one.apiKey.id, two.apiKey.id].toSorted());
  });

  test('is told of a revoked key too', async () => {
    await using world = await openWorld();
    const { key, apiKey } = await world.auth.keys.create(INPUT);
    await world.auth.keys.revoke(apiKey.id);
    await world.auth.reportExposed(key, BY);
    expect(await reportsOf(world)).toEqual([apiKey.id]);
  });

  test('is nothing when it is the string of no key', async () => {
    await using world = await openWorld();
    await using elsewhere = await openWorld();
    const { key } = await elsewhere.auth.keys.create(INPUT);
    const { key: known } = await world.auth.keys.create(INPUT);
    const seq = () => world.sql('select seq from log_head');
    const before = await seq();
    const forged = `${known.slice(0, 30)}${known[30] === 'A' ? 'B' : 'A'}${known.slice(31)}`;
    for (const text of ['', 'x'.repeat(10_000), key, forged]) await world.auth.reportExposed(text, BY);
    expect(await seq()).toEqual(before);
  });
});
