/**
 * Text that a database cannot keep as it is (NUL in PostgreSQL, half a character anywhere) never gets to one: whoever
 * says it is told which field, and who looks for it finds nothing.
 */
import { describe, expect, test } from 'vitest';
import type { UpdateKeyInput } from '../src/api-keys/key-patch.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { callerWith } from './callers.ts';
import { refusalOf } from './refusal-of.ts';
import { openTestEngine } from './test-engine.ts';

const UNSTORABLE = [
  ['NUL', 'a\0b'],
  ['half a character', 'a\ud83db'],
  ['the other half', '\ude00'],
] as const;

const INPUT = { userId: 'u', name: 'n' };

describe.each(UNSTORABLE)('%s', (_what, text) => {
  test('in stored text is refused with 400 and the name of the field', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const { id } = (await auth.keys.create(INPUT)).apiKey;
    const target = { tenantId: 'default', keyId: id };
    const before = await engine.sql('select seq from log_head');
    const said: readonly [string, () => Promise<unknown>][] = [
      ['userId', () => auth.keys.create({ ...INPUT, userId: text })],
      ['name', () => auth.keys.create({ ...INPUT, name: text })],
      ['description', () => auth.keys.create({ ...INPUT, description: text })],
      ['permissions[0]', () => auth.keys.create({ ...INPUT, permissions: [text] })],
      ['grantable[0]', () => auth.keys.create({ ...INPUT, grantable: [text] })],
      ['environment', () => auth.keys.create({ ...INPUT, environment: text as 'live' })],
      [
        'rateLimits[0].name',
        () => auth.keys.create({ ...INPUT, rateLimits: [{ name: text, limit: 1, window: '1m' }] }),
      ],
      ['ipAllowlist[0]', () => auth.keys.create({ ...INPUT, ipAllowlist: [text] })],
      ['jwt.audience[0]', () => auth.keys.create({ ...INPUT, jwt: { audience: [text] } })],
      ['name', () => auth.keys.update(id, { name: text } satisfies UpdateKeyInput)],
      ['reason', () => auth.keys.suspend(id, { reason: text })],
      ['reason', () => auth.keys.revoke(id, { reason: text })],
      ['id', () => auth.tenants.create({ id: text })],
      ['name', () => auth.tenants.create({ id: 'acme', name: text })],
      ['name', () => auth.tenants.update('default', { name: text })],
    ];
    for (const [field, say] of said) {
      const refusal = await refusalOf(say);
      expect([refusal.code, refusal.field], field).toEqual(['invalid_request', field]);
      expect(JSON.stringify([refusal.message, refusal.detail])).not.toContain(JSON.stringify(text).slice(1, -1));
    }
    expect((await refusalOf(auth.keys.create(INPUT, { idempotencyKey: text }))).code).toBe('invalid_request');
    expect(await engine.sql('select seq from log_head')).toEqual(before);
    if (!text.isWellFormed()) return;
    // What is hashed before it is stored, or written as JSON, may be any character.
    await auth.tokens.revoke({ ...target, tokenId: text, expiresAt: engine.clock.now() + 1_000 });
    const by = callerWith({ tenantId: 'system', permissions: ['pantheon:*'] });
    const actor = { ...by.auditContext.actor, userId: 'x', userAgent: text, address: null };
    await auth.reportExposed((await auth.keys.create(INPUT)).key, { ...by.auditContext, actor, requestId: text });
    const { items } = await auth.events.list('default', { limit: 1 });
    expect(items).toMatchObject([{ type: 'key.exposed_in_url' }]);
  });

  test('in a search finds nothing, or is refused', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.keys.create(INPUT);
    const lookups: Readonly<Record<string, (auth: PantheonAuth) => Promise<unknown>>> = {
      get: () => auth.keys.get(text),
      versions: () => auth.keys.versions(text),
      revoke: () => auth.keys.revoke(text),
      rotate: () => auth.rotation.rotate(text),
      'user of a list': () => auth.keys.list({ userId: text }),
      'search of a list': () => auth.keys.list({ q: text }),
      'tenant of a list': () => auth.tenant(text).keys.list(),
      tenant: () => auth.tenants.get(text),
      'a tenant to suspend': () => auth.tenants.suspend(text),
      'tenant of events': () => auth.events.list(text),
      'subject of events': () => auth.events.list('default', { subjectId: text }),
      'token of a key': () => auth.tokens.issue({ tenantId: 'default', keyId: text }),
    };
    for (const [name, look] of Object.entries(lookups)) {
      const answer = await look(auth).then(
        (found) => (found as { items: unknown[] }).items,
        (error: { code?: unknown }) => error.code,
      );
      expect([[], 'not_found', 'invalid_request'], name).toContainEqual(answer);
    }
    expect(await auth.verify({ key: text })).toMatchObject({ valid: false, denial: { code: 'malformed' } });
    expect(await auth.verify({ key: auth.generator.generateKey().key, tenant: text })).toMatchObject({ valid: false });
    expect(await auth.tokens.verify({ token: text })).toMatchObject({ valid: false, denial: { code: 'malformed' } });
  });
});

describe('a search', () => {
  test('finds text that looks the same, however it was typed, on both databases', async () => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    const names = ['Ångström probe', 'E\u0301cole', 'ΟΔΥΣΣΕΥΣ', 'ПРИВЕТ мир', '각하', 'plain_50%'];
    for (const name of names) await auth.keys.create({ ...INPUT, name });
    const found = async (q: string) => (await auth.keys.list({ q })).items.map((item) => 'name' in item && item.name);
    for (const [at, texts] of [
      ['ångström', 'A\u030aNGSTRO\u0308M', '\u212bngstr', 'ÖM PR'],
      ['école', 'ÉCOLE', 'e\u0301c'],
      ['οδυσσευς', 'δυσσευσ', 'ΣΕΥΣ', 'δυς'],
      ['привет', 'Т МИ'],
      ['\u1100\u1161\u11a8', '하'],
      ['_50%', 'PLAIN'],
    ].entries())
      for (const text of texts) expect([text, await found(text)]).toEqual([text, [names[at]]]);
    expect(await found('ecole')).toEqual([]);
    expect(await found('plain%50')).toEqual([]);
  });

  test.each(['', ' ', '\t', null])('%j is refused as an empty search or filter', async (empty) => {
    await using engine = await openTestEngine();
    const { auth } = engine;
    await auth.keys.create(INPUT);
    const filters: readonly (readonly [string, () => Promise<unknown>])[] = [
      ...['userId', 'state', 'environment', 'q', 'cursor', 'limit'].map(
        (name) => [name, () => auth.keys.list({ [name]: empty })] as const,
      ),
      ...['type', 'subjectType', 'subjectId', 'order', 'cursor'].map(
        (name) => [name, () => auth.events.list('default', { [name]: empty })] as const,
      ),
      ['cursor', () => auth.tenants.list({ cursor: empty as string })],
    ];
    for (const [field, list] of filters)
      expect(await refusalOf(list)).toMatchObject(
        field === 'cursor' && empty !== null ? { code: 'invalid_cursor' } : { code: 'invalid_request', field },
      );
  });
});

test.each([
  ['a zero-width space', '\u200b'],
  ['a byte order mark', '\ufeff'],
  ['a word joiner', '\u2060'],
  ['a soft hyphen', '\u00ad'],
  ['a right-to-left override', '\u202e'],
  ['an isolate', '\u2066'],
  ['a line separator', '\u2028'],
])('no name holds %s', async (_what, sign) => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  for (const text of [sign, `a${sign}b`, `${sign}a`]) {
    for (const field of ['name', 'userId', 'description'])
      expect(await refusalOf(auth.keys.create({ ...INPUT, [field]: text }))).toMatchObject({ field });
    expect(await refusalOf(auth.tenants.create({ id: 'acme', name: text }))).toMatchObject({ field: 'name' });
  }
});

test('a name without a visible character is refused', async () => {
  await using engine = await openTestEngine();
  const { auth } = engine;
  for (const text of ['\u3164', '\u2800', '\u200d', '\u115f\u1160', '\u0301', '\ufe0f']) {
    for (const field of ['name', 'userId', 'description'])
      expect([text, await refusalOf(auth.keys.create({ ...INPUT, [field]: text }))]).toMatchObject([text, { field }]);
    expect(await refusalOf(auth.tenants.create({ id: 'acme', name: text }))).toMatchObject({ field: 'name' });
  }
  await auth.keys.create({ ...INPUT, name: '👩\u200d💻', description: 'می\u200cخواهم' });
});
