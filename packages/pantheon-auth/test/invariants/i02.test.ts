import { expect, test } from 'vitest';
import { refusalOf } from '../refusal-of.ts';
import { openTestEngine, type TestEngine } from '../test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'] };

/** Everything that can change a verdict, as it is stored. */
const ACCESS_STATE = [
  'tenants',
  'api_keys',
  'api_key_versions',
  'signing_keys',
  'token_revocations',
  'id_tag_secrets',
] as const;

async function stateOf(engine: TestEngine): Promise<{ readonly seq: number; readonly rows: string }> {
  const [head] = await engine.sql('select seq from log_head');
  const tables: unknown[] = [];
  for (const table of ACCESS_STATE) tables.push(await engine.sql(`select * from ${table} order by 1, 2, 3`));
  const rows = JSON.stringify(tables, (_name, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
  );
  return { seq: Number(head?.['seq']), rows };
}

test('I2: every change writes exactly its events, and a call that writes no event changes nothing', async () => {
  await using engine = await openTestEngine();
  const { auth, clock } = engine;
  const { key, apiKey } = await auth.keys.create({ ...INPUT, rotation: { overlap: '1h' } });
  const { id } = apiKey;
  const token = { tenantId: 'default', keyId: id, tokenId: 't', expiresAt: clock.now() + 1_000 };
  const previous = () => String(auth.tokens.signingKeys().find(({ state }) => state === 'previous')?.kid);
  const steps: [string, string[], () => Promise<unknown>][] = [
    ['create', ['key.created'], () => auth.keys.create(INPUT)],
    ['create, to be repeated', ['key.created'], () => auth.keys.create(INPUT, { idempotencyKey: 'a' })],
    ['create, repeated', ['key.secret_replaced'], () => auth.keys.create(INPUT, { idempotencyKey: 'a' })],
    ['update', ['key.updated'], () => auth.keys.update(id, { name: 'new' })],
    ['update to the same', [], () => auth.keys.update(id, { name: 'new' })],
    ['a use', [], () => auth.verify({ key })],
    ['a refused use', [], () => auth.verify({ key, permissions: ['docs:write'] })],
    ['an unknown key', [], () => auth.verify({ key: auth.generator.generateKey().key })],
    ['an exchange', [], () => auth.tokens.exchange({ key })],
    ['reading', [], () => Promise.all([auth.keys.get(id), auth.keys.list(), auth.keys.versions(id)])],
    ['a refused change', [], () => refusalOf(auth.rotation.retire(id, 1))],
    ['rotate', ['key.rotated'], () => auth.rotation.rotate(id)],
    ['a refused rotation', [], () => refusalOf(auth.rotation.rotate(id))],
    ['retire', ['key.version_retired'], () => auth.rotation.retire(id, 1)],
    ['retire again', [], () => auth.rotation.retire(id, 1)],
    ['suspend', ['key.suspended'], () => auth.keys.suspend(id)],
    ['suspend again', [], () => auth.keys.suspend(id)],
    ['resume', ['key.resumed'], () => auth.keys.resume(id)],
    ['revoke tokens', ['key.tokens_revoked'], () => auth.tokens.revokeAllOf({ tenantId: 'default', keyId: id })],
    ['revoke a token', ['token.revoked'], () => auth.tokens.revoke(token)],
    ['revoke it again', [], () => auth.tokens.revoke(token)],
    ['a signing key', ['signing_key.activated', 'signing_key.created'], () => auth.tokens.rotateSigningKey('ES256')],
    ['its end', ['signing_key.retired'], () => auth.tokens.retireSigningKey(previous())],
    ['a tenant', ['tenant.created'], () => auth.tenants.create({ id: 'acme' })],
    ['its name', ['tenant.updated'], () => auth.tenants.update('acme', { name: 'x' })],
    ['its suspension', ['tenant.suspended'], () => auth.tenants.suspend('acme')],
    ['its return', ['tenant.resumed'], () => auth.tenants.resume('acme')],
    ['its end', ['tenant.deleted'], () => auth.tenants.delete('acme')],
    ['the root key', ['key.created'], () => auth.bootstrap({ read: () => null, write: () => {} })],
    ['the root key again', [], () => auth.bootstrap({ read: () => null, write: () => {} })],
    ['revoke', ['key.revoked'], () => auth.keys.revoke(id)],
    ['revoke again', [], () => auth.keys.revoke(id)],
    ['a second instance', [], () => engine.openAgain()],
    ['the end of it', [], () => auth.close()],
  ];
  for (const [name, types, step] of steps) {
    clock.advance(1);
    const before = await stateOf(engine);
    await step();
    const after = await stateOf(engine);
    expect(after.seq - before.seq, name).toBe(types.length);
    expect(after.rows !== before.rows, name).toBe(types.length > 0);
    const written = await engine.sql('select type from events where seq > ? order by seq', before.seq);
    expect(
      written.map(({ type }) => type),
      name,
    ).toEqual(types);
  }
});

test('I2: events can be appended to the log, and not changed or removed', async () => {
  await using engine = await openTestEngine();
  await engine.auth.keys.create(INPUT);
  for (const sql of ['delete from events', `update events set type = 'key.updated'`])
    await expect(engine.sql(sql)).rejects.toThrow('append-only');
});
