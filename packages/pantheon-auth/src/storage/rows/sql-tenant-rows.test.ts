import { expect, test } from 'vitest';
import { openScratchDatabase } from '../../../test/store.ts';
import { insertTenant, sampleEvent, sampleTenant } from '../../testing/scratch-database.ts';

test('tenants are found by id and listed in the order of their ids', async () => {
  await using scratch = await openScratchDatabase();
  const { tenants, ledger } = scratch.db;
  expect(await tenants.find('default')).toBeNull();
  const changes = ['c', 'default', 'a', 'b'].map((id) => insertTenant({ id, tenant_id: id }));
  await ledger.commit({ changes, events: [sampleEvent()] });
  expect(await tenants.find('default')).toEqual(sampleTenant());
  expect((await tenants.list(null, 2)).map((tenant) => tenant.id)).toEqual(['a', 'b']);
  expect((await tenants.list('b', 10)).map((tenant) => tenant.id)).toEqual(['c', 'default']);
});
