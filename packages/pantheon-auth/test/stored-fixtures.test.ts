/** A store that an earlier version wrote opens, and its keys and tokens answer what they answered then. */
import { expect, test } from 'vitest';
import type { PantheonAuthOptions } from '../src/engine/options.ts';
import { createPantheonAuth } from '../src/pantheon-auth.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { restoreStore, STORED_FIXTURES } from './restored-store.ts';
import type { Expected } from './stored-contents.ts';

const A_MINUTE_LATER_MS = 60_000;

const answerOf = (verification: { readonly valid: boolean; readonly denial?: { readonly code: string } }): string =>
  verification.denial?.code ?? 'valid';
const expectedOf = (all: readonly Expected[]): Record<string, string> =>
  Object.fromEntries(all.map(({ name, answer }) => [name, answer]));

/** Of a file they are a list; of PostgreSQL they are in the driver's answer. */
const rowsOf = (answer: unknown): unknown => (Array.isArray(answer) ? answer : (answer as { rows: unknown }).rows);

for (const name of STORED_FIXTURES) {
  test(`the store ${name} opens with the keys, tokens, events and counts that were written`, async () => {
    await using restored = await restoreStore(name);
    const { contents } = restored;
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
    // Counts that were stored by the minute only are found by the hour and the day, of the key and of its tenant.
    const [limited] = items;
    const range = { from: Date.parse(contents.madeAt) - 3_600_000, to: clock.now() };
    for (const granularity of ['minute', 'hour', 'day'] as const) {
      for (const id of [limited?.id ?? '', null]) {
        const usage = await auth.keys.usage(id, { ...range, granularity });
        const valid = usage.items.reduce((sum, { outcomes }) => sum + (outcomes['valid'] ?? 0), 0);
        expect(valid).toBeGreaterThanOrEqual(contents.usageOfLimited);
      }
    }
    const created = await auth.events.list('default', { type: 'key.created', limit: 200 });
    const inOtherTenants = 2;
    expect(created.items).toHaveLength((contents.events['key.created'] ?? 0) - inOtherTenants);

    // And it goes on: what is made now works.
    const { key } = await auth.keys.create({ userId: 'user-1', name: 'new' });
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    await auth.close();
  });

  test(`the keys of each tenant of the store ${name} are counted when it is opened, and no more than the maximum are created`, async () => {
    await using restored = await restoreStore(name);
    const clock = new TestClock(Date.parse(restored.contents.madeAt) + A_MINUTE_LATER_MS);
    const auth = await createPantheonAuth({ ...restored.options, clock, keysPerTenantMax: 1 } as PantheonAuthOptions);
    const wrong = `
      select tenant_id from (
        select k.tenant_id, count(*) as n from api_keys k where state <> 'revoked' group by k.tenant_id
      ) as found where not exists (select 1 from key_counts c where c.tenant_id = found.tenant_id and c.keys = found.n)`;
    expect(rowsOf(await restored.sql(wrong))).toEqual([]);
    await expect(auth.keys.create({ userId: 'u', name: 'one more' })).rejects.toMatchObject({ code: 'too_many_keys' });
    await auth.close();
  });

  test(`what a key did is found in the store ${name}, also from before it was indexed, and a damaged event does not prevent it`, async () => {
    // Two keys of which nothing else is expected: the younger one acted on the older one.
    const key = (place: 'asc' | 'desc') =>
      `(select id from api_keys where tenant_id = 'default' and state = 'active' and expires_at is null order by id ${place} limit 1)`;
    const addEvent = (at: number, body: string): string => `
      insert into events (seq, id, at, tenant_id, type, subject_type, subject_id, body, leaf_random, leaf)
      select max(seq) + 1, 'added-${at}', max(at), 'default', 'key.updated', 'key', ${key('asc')}, ${body}, leaf, leaf
      from (select seq, at, leaf from events order by seq desc limit 1) as last group by leaf`;
    const by = `'{"actor":{"keyId":"' || ${key('desc')} || '"},"after":{}}'`;
    await using restored = await restoreStore(name, [
      addEvent(1, `'no JSON'`),
      addEvent(2, `'{"actor":{"keyId":null},"after":{}}'`),
      addEvent(3, by),
      addEvent(4, `'{"actor":{"keyId":"'`),
      'update log_head set seq = (select max(seq) from events)',
    ]);
    const clock = new TestClock(Date.parse(restored.contents.madeAt) + A_MINUTE_LATER_MS);
    const auth = await createPantheonAuth({ ...restored.options, clock });
    const { items } = await auth.keys.list({ state: 'active', limit: 200 });
    const ids = items.flatMap((one) => ('name' in one && one.expiresAt === undefined ? [one.id] : [])).toSorted();
    const [target = '', actor = ''] = [ids[0], ids.at(-1)];
    const { actedOn } = await auth.keys.revoke(actor, { cascade: true });
    const asItIs = { revoked: false, tokensRevoked: false };
    expect(actedOn?.items).toEqual([{ keyId: target, tenantId: 'default', did: ['updated'], ...asItIs }]);
    await auth.close();
  });
}
