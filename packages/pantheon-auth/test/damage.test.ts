/** What somebody did to the database behind our back, and what turned up where it should not: seen from outside. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatKey, generateKey, parseKey } from '../src/api-keys/key-generator.ts';
import { PROCESS_ACTOR } from '../src/domain/event.ts';
import { CODES } from '../src/foundation/codes.ts';
import { refusalOf } from './refusal-of.ts';
import { StatementCount } from './statement-count.ts';
import { STORE } from './store.ts';
import { openTestEngine, type TestEngine } from './test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

describe('a number outside its range in the row of a key', () => {
  test.each(['created_at', 'expires_at'])(
    '%s: requests with that key get 503, other keys are accepted',
    async (column) => {
      await using engine = await openTestEngine();
      const damaged = await engine.auth.keys.create(INPUT);
      const sound = await engine.auth.keys.create(INPUT);
      await engine.sql(`update api_keys set ${column} = 9007199254740993 where id = ?`, damaged.apiKey.id);
      for (const auth of [await engine.openAgain(), engine.auth]) {
        expect(await auth.verify({ key: sound.key })).toMatchObject({ valid: true });
      }
      const again = await engine.openAgain();
      expect((await refusalOf(again.verify({ key: damaged.key }))).code).toBe('key_quarantined');
      expect(CODES.key_quarantined.status).toBe(503);
      expect(await again.verify({ key: sound.key })).toMatchObject({ valid: true });
    },
  );
});

describe('a key whose row cannot be decrypted', () => {
  const wrongSecretOf = (key: string): string => {
    const [own, other] = [parseKey(key), parseKey(generateKey({ keyPrefix: 'pan', environment: 'live' }).key)];
    return own === null || other === null ? '' : formatKey({ ...own, secret: other.secret });
  };

  test('is reported to its holder only, read once and logged once', async () => {
    await using engine = await openTestEngine();
    const { key, apiKey } = await engine.auth.keys.create(INPUT);
    const { key: next } = await engine.auth.rotation.rotate(apiKey.id, { overlap: '1h' });
    await engine.sql(`update api_keys set name = 'changed' where id = ?`, apiKey.id);
    const fresh = await engine.openAgain();
    const strangers = Array.from({ length: 50 }, () => wrongSecretOf(key));
    for (const stranger of strangers)
      expect(await fresh.verify({ key: stranger, ip: '192.0.2.1' })).toMatchObject({
        ...{ valid: false, denial: { code: 'unknown' }, secretVerified: false, keyId: null },
      });
    {
      using count = new StatementCount();
      for (const held of [key, next, key])
        expect((await refusalOf(fresh.verify({ key: held }))).code).toBe('key_quarantined');
      expect(count.reads).toBe(0);
    }
    expect(engine.logged.filter((line) => line.includes('a key is damaged and cannot be opened'))).toHaveLength(1);
    // What it says of the key is for the operator, and has no secret.
    expect(engine.logged.join()).toContain(apiKey.id);
    expect(engine.logged.join()).not.toContain(parseKey(key)?.secret);
    // An event about it is a reason to look again.
    await engine.auth.keys.revoke(apiKey.id);
    await engine.propagate();
    expect(await fresh.verify({ key })).toMatchObject({ denial: { code: 'unknown' } });
  });

  test('and that has no secret to compare with is 503 for every caller, and read once', async () => {
    await using engine = await openTestEngine();
    const { key, apiKey } = await engine.auth.keys.create(INPUT);
    await engine.sql('update api_key_versions set accepted_until = 1 where key_id = ?', apiKey.id);
    const fresh = await engine.openAgain();
    const ask = async (text: string) => (await refusalOf(fresh.verify({ key: text }))).code;
    expect(await ask(key)).toBe('key_quarantined');
    using count = new StatementCount();
    for (let n = 0; n < 50; n += 1) expect(await ask(wrongSecretOf(key))).toBe('key_quarantined');
    expect(count.reads).toBe(0);
    expect(engine.logged.filter((line) => line.includes('a key is damaged and cannot be opened'))).toHaveLength(1);
  });

  test('and that lacks a version is 503 for every caller that may hold it', async () => {
    await using engine = await openTestEngine();
    const { key, apiKey } = await engine.auth.keys.create(INPUT);
    const { key: next } = await engine.auth.rotation.rotate(apiKey.id, { overlap: '1h' });
    await engine.sql('delete from api_key_versions where key_id = ? and version = 2', apiKey.id);
    const fresh = await engine.openAgain();
    for (const text of [key, next, wrongSecretOf(key)])
      expect((await refusalOf(fresh.verify({ key: text }))).code).toBe('key_quarantined');
  });

  test('gives its tokens 503, and denies tokens that it has not signed', async () => {
    await using engine = await openTestEngine();
    const tokens: string[] = [];
    for (const algorithm of ['ES256', 'HS256'] as const) {
      const { key } = await engine.auth.keys.create({ ...INPUT, jwt: { algorithm } });
      const exchange = await engine.auth.tokens.exchange({ key });
      tokens.push(exchange.issued ? exchange.token.token : '');
    }
    await engine.sql(`update api_keys set name = 'changed'`);
    const fresh = await engine.openAgain();
    for (const token of tokens) {
      expect((await refusalOf(fresh.tokens.verify({ token }))).code).toBe('key_quarantined');
      const forged = token.replace(/[^.]+$/, (signature) => 'A'.repeat(signature.length));
      expect(await fresh.tokens.verify({ token: forged })).toMatchObject({ denial: { code: 'unknown' } });
    }
  });
});

describe('a database that was tampered with', () => {
  test('without its canary is refused, and no new master key is created for it', async () => {
    await using engine = await openTestEngine();
    await engine.auth.close();
    expect(await engine.sql(`delete from meta where name = 'canary' returning name`)).toHaveLength(1);
    expect((await refusalOf(engine.openAgain())).code).toBe('master_key_mismatch');
    const file = join(engine.dataDir, 'master.key');
    rmSync(file, { force: true });
    expect((await refusalOf(engine.openAgain())).code).toBe('master_key_mismatch');
    expect(existsSync(file)).toBe(false);
    expect(await engine.sql(`select * from meta where name = 'canary'`)).toEqual([]);
  });

  test('whose keys were all deleted gets no new root key', async () => {
    await using engine = await openTestEngine();
    const written: string[] = [];
    const store = { read: () => null, write: (key: string) => void written.push(key) };
    expect(await engine.auth.bootstrap(store)).not.toBeNull();
    await engine.sql('delete from api_key_versions');
    await engine.sql('delete from api_keys');
    expect(await engine.auth.bootstrap(store)).toBeNull();
    // A file that lacks what its log says was made does not even start.
    if (STORE === 'sqlite') expect((await refusalOf(engine.openAgain())).code).toBe('store_unusable');
    else expect(await (await engine.openAgain()).bootstrap(store)).toBeNull();
    expect(written).toHaveLength(1);
    expect(await engine.sql('select id from api_keys')).toEqual([]);
  });
});

describe('a key string that was found in a URL', () => {
  const BY = { actor: { ...PROCESS_ACTOR, address: '192.0.2.9' }, requestId: 'request-1', reason: null };
  const reportsOf = async (engine: TestEngine) =>
    (await engine.auth.events.list('default', { type: 'key.exposed_in_url' })).items.map(({ subject }) => subject.id);

  test('is recorded as one event per key and hour, however often it is found', async () => {
    await using engine = await openTestEngine();
    const { auth, clock } = engine;
    const [one, two] = [await auth.keys.create(INPUT), await auth.keys.create(INPUT)];
    await Promise.all(Array.from({ length: 5 }, () => auth.reportExposed(one.key, BY)));
    clock.advance(3_599_999);
    await auth.reportExposed(one.key, BY);
    expect(await reportsOf(engine)).toEqual([one.apiKey.id]);
    await auth.reportExposed(two.key, BY);
    clock.advance(1);
    await auth.reportExposed(one.key, BY);
    expect((await reportsOf(engine)).toSorted()).toEqual([one.apiKey.id, one.apiKey.id, two.apiKey.id].toSorted());
  });

  test('is recorded for a revoked key too', async () => {
    await using engine = await openTestEngine();
    const { key, apiKey } = await engine.auth.keys.create(INPUT);
    await engine.auth.keys.revoke(apiKey.id);
    await engine.auth.reportExposed(key, BY);
    expect(await reportsOf(engine)).toEqual([apiKey.id]);
  });

  test('is not recorded if it is the string of no key', async () => {
    await using engine = await openTestEngine();
    await using elsewhere = await openTestEngine();
    const { key } = await elsewhere.auth.keys.create(INPUT);
    const { key: known } = await engine.auth.keys.create(INPUT);
    const seq = () => engine.sql('select seq from log_head');
    const before = await seq();
    const forged = `${known.slice(0, 30)}${known[30] === 'A' ? 'B' : 'A'}${known.slice(31)}`;
    for (const text of ['', 'x'.repeat(10_000), key, forged]) await engine.auth.reportExposed(text, BY);
    expect(await seq()).toEqual(before);
  });
});
