/** The compiler refuses a commit that names what its table does not have. `npm run types` checks the marked lines. */
import { expect, expectTypeOf, test } from 'vitest';
import { insertTenant, sampleKey, sampleTenant, sampleVersion } from '../testing/scratch-database.ts';
import type { Precondition, RowChange } from './ledger.ts';

const commitOf = (change: RowChange, precondition?: Precondition): unknown[] => [change, precondition];
const tenant = { table: 'tenants', where: { id: 'a' } } as const;
const version = { table: 'api_key_versions', where: { key_id: 'k', tenant_id: 'a' } } as const;
const update = { kind: 'update', expectedRevision: 1 } as const;

test('a misspelt column does not compile', () => {
  commitOf({ ...update, ...version, set: { accepted_until: 5 } });
  // @ts-expect-error: there is no such column. Written, it would leave a retired version current.
  commitOf({ ...update, ...version, set: { accepted_untill: 5 } });
  // @ts-expect-error: it is a column of another table.
  commitOf({ ...update, ...tenant, set: { accepted_until: 5 } });
  // @ts-expect-error: a time is a number.
  commitOf({ ...update, ...version, set: { accepted_until: '5' } });

  commitOf({ kind: 'insert', table: 'tenants', row: sampleTenant() });
  // @ts-expect-error: there is no such column.
  commitOf({ kind: 'insert', table: 'tenants', row: { ...sampleTenant(), colour: 'red' } });
  // @ts-expect-error: a row has all of its columns.
  commitOf({ kind: 'insert', table: 'tenants', row: { id: 'a' } });
  // @ts-expect-error: it is the row of another table.
  commitOf({ kind: 'insert', table: 'tenants', row: sampleKey() });
});

test('a condition that does not name a row does not compile', () => {
  commitOf({ kind: 'delete', ...version });
  // @ts-expect-error: the name of a tenant does not say which one it is.
  commitOf({ kind: 'delete', table: 'tenants', where: { name: 'a' } });
  // @ts-expect-error: a key is one of a tenant.
  commitOf({ kind: 'delete', table: 'api_keys', where: { id: 'k' } });
  // @ts-expect-error: there is no such column.
  commitOf({ ...update, table: 'tenants', where: { idd: 'a' }, set: { name: 'n' } });

  commitOf(insertTenant(), { kind: 'row', ...tenant, revision: 1 });
  // @ts-expect-error: it is the column of another table.
  commitOf(insertTenant(), { kind: 'row', table: 'tenants', where: { kid: 'a' }, revision: 1 });
  // @ts-expect-error: there is no such column.
  commitOf(insertTenant(), { kind: 'absent', table: 'token_revocations', where: { jwt_id: 'a' } });
});

test('only columns of a row can be read', () => {
  const row = sampleVersion({ key_id: 'k' });
  expectTypeOf(row.accepted_until).toEqualTypeOf<number | null>();
  // @ts-expect-error: there is no such column.
  const { accepted_untill } = row;
  // What would be read of it is nothing, as of the current version.
  expect(accepted_untill).toBeUndefined();
});
