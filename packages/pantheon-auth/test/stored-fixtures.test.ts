/** A store that an earlier version wrote opens, and its keys and tokens answer what they answered then. */
import { expect, test } from 'vitest';
import { createPantheonAuth } from '../src/pantheon-auth.ts';
import { TestClock } from '../src/testing/test-clock.ts';
import { restoreStore, STORED_FIXTURES } from './restored-store.ts';
import type { Expected } from './stored-contents.ts';

const A_MINUTE_LATER_MS = 60_000;

const answerOf = (verification: { readonly valid: boolean; readonly denial?: { readonly code: string } }): string =>
  verification.denial?.code ?? 'valid';
const expectedOf = (all: readonly Expected[]): Record<string, string> =>
  Object.fromEntries(all.map(({ name, answer }) => [name, answer]));

for (const name of STORED_FIXTURES) {
  test(`the store ${name} opens, and its keys, tokens, events and counts are as they were`, async () => {
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
    const created = await auth.events.list('default', { type: 'key.created', limit: 200 });
    const inOtherTenants = 2;
    expect(created.items).toHaveLength((contents.events['key.created'] ?? 0) - inOtherTenants);

    // And it goes on: what is made now works.
    const { key } = await auth.keys.create({ userId: 'user-1', name: 'new' });
    expect(await auth.verify({ key })).toMatchObject({ valid: true });
    await auth.close();
  });
}
