import { expect, test } from 'vitest';
import { openTestEngine } from '../../test/test-engine.ts';
import type { KeyRecord } from '../domain/key.ts';
import { PantheonError } from '../foundation/errors.ts';
import { TestClock } from '../testing/test-clock.ts';
import { Administrators } from './administrators.ts';
import type { KeyStorage } from './key-storage.ts';

/** An administrator as it is stored, and others that `find` answers for. */
async function among(find: (id: string) => Promise<unknown>) {
  await using engine = await openTestEngine();
  const permissions = ['pantheon:*'];
  const { apiKey } = await engine.auth.tenant('system').keys.create({ userId: 'root', name: 'root', permissions });
  const record = {
    ...apiKey,
    state: { kind: 'active' },
    expiresAt: null,
    ipRanges: [],
    revision: 1,
  } as unknown as KeyRecord;
  const storage = { administrators: async () => [record.id, 'other'], find } as unknown as KeyStorage;
  return { record, administrators: new Administrators({ storage, clock: new TestClock() }) };
}

test('a damaged key, a deleted one and one without the rights of an administrator do not count as another administrator', async () => {
  const answers = [
    () => Promise.reject(new PantheonError('key_quarantined')),
    async () => null,
    async () => ({
      record: {
        state: { kind: 'suspended' },
        permissions: [],
        ipAllowlist: [],
        environment: 'live',
        expiresAt: null,
        notBefore: null,
      },
    }),
  ];
  for (const find of answers) {
    const { record, administrators } = await among(find);
    await expect(administrators.requireAnotherAdmin(record)).rejects.toMatchObject({ code: 'last_administrator' });
    expect(await administrators.requireAnotherAdmin(record, true)).toEqual([]);
  }
});

test('an outage is reported as an error, not as "no other administrator"', async () => {
  const away = new PantheonError('store_unavailable');
  const { record, administrators } = await among(() => Promise.reject(away));
  await expect(administrators.requireAnotherAdmin(record)).rejects.toBe(away);
});
