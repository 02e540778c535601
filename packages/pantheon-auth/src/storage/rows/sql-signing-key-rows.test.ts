import { expect, test } from 'vitest';
import { openScratchDatabase } from '../../../test/store.ts';
import type { RowChange } from '../../events/ledger.ts';
import type { SigningKeyRow } from '../../schema/signing-key-row.ts';
import type { TokenRevocationRow } from '../../schema/token-revocation-row.ts';
import { sampleEvent } from '../../testing/scratch-database.ts';

function signingKey(over: Partial<SigningKeyRow>): SigningKeyRow {
  return {
    kid: 'a',
    tenant_id: 'system',
    algorithm: 'ES256',
    public_jwk: '{}',
    created_at: 1,
    signs_from: 1,
    retired_at: null,
    revision: 1,
    sealed: new Uint8Array([1, 0]),
    ...over,
  };
}

test('the signing keys that may still verify are read, newest first, and no retired one', async () => {
  await using scratch = await openScratchDatabase();
  const rows = [
    signingKey({ kid: 'old' }),
    signingKey({ kid: 'new', created_at: 2 }),
    signingKey({ kid: 'x', retired_at: 9 }),
  ];
  const changes = rows.map((row): RowChange => ({ kind: 'insert', table: 'signing_keys', row }));
  await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  expect(await scratch.db.signingKeys.all()).toEqual([rows[1], rows[0]]);
});

test('revocations of tokens that may still be valid are read in pages, in order of expiry', async () => {
  await using scratch = await openScratchDatabase();
  const { tokenRevocations } = scratch.db;
  const common = { tenant_id: 'a', key_id: 'k', revision: 1 };
  const row = (jti: string, expires_at: number): TokenRevocationRow => ({ ...common, jti, expires_at });
  const rows = [row('d', 30), row('b', 20), row('c', 20), row('a', 10)];
  const changes = rows.map((one): RowChange => ({ kind: 'insert', table: 'token_revocations', row: one }));
  await scratch.db.ledger.commit({ changes, events: [sampleEvent()] });
  const first = await tokenRevocations.unexpired(10, null, 2);
  expect(first).toEqual([rows[1], rows[2]]);
  expect(await tokenRevocations.unexpired(10, { expiresAt: 20, jti: 'c' }, 2)).toEqual([rows[0]]);
  expect(await tokenRevocations.find('a')).toEqual(rows[3]);
  expect(await tokenRevocations.find('e')).toBeNull();
});
