import { expect, test } from 'vitest';
import { assertPostgresUrl, assertSchemaName, nameOfPostgresUrl } from './postgres-url.ts';

const FORM = 'Write postgres://user@host:port/database, user and password percent-encoded.';

test.each([
  'postgres://db/pantheon',
  'postgresql://me:p%40ss%2Fw@db.internal:6432/pantheon?sslmode=verify-full&sslrootcert=/etc/ca.pem',
  'postgres://me:secret@[::1]:5432/pantheon',
  'postgres:///pantheon?host=/cloudsql/project:region:instance&user=me&password=secret',
  'postgres://me:secret@/pantheon?host=/cloudsql/project:region:instance',
  'postgres://me@%2Frun%2Fpostgresql/pantheon',
  'postgres://db/pantheon?application_name=billing&sslnegotiation=direct&ssl=true',
])('%s is accepted', (url) => {
  expect(() => assertPostgresUrl(url)).not.toThrow();
});

test.each([
  ['mysql://x', FORM],
  ['postgres:db', FORM],
  ['postgres://me:12/hunter2@host/db', FORM],
  ['postgres://me:12?hunter2@host/db', FORM],
  ['postgres://me:12#hunter2@h/d', FORM],
  ['postgres://me:hunter%zz@h/d', FORM],
  ['postgres://me:hunter2@h/d e', FORM],
  ['postgres://me:hunter2@h1,h2/d', 'It names several hosts'],
  ['postgres://me:hunter2@h1:5432,h2:5433/d', 'It names several hosts'],
  ['postgres://me:hunter2@/d?host=/a,/b', 'host names several'],
  ['postgres://me:hunter2@h/d?host=/a', 'a host in two places'],
  ['postgres://me:hunter2@h/d?schema=auth', 'Name the schema as schema.'],
  ['postgres://me:hunter2@h/d?currentSchema=auth', 'Name the schema as schema.'],
  ['postgres://me:hunter2@h/d?options=-csearch_path%3Dauth', 'options means nothing in it.'],
  ['postgres://me:hunter2@h/d?connection_limit=5', 'as poolMax.'],
  ['postgres://me:hunter2@h/d?pgbouncer=true', 'pool_mode = session'],
  ['postgres://me:hunter2@h/d?channel_binding=require', 'channel_binding means nothing'],
  ['postgres://me:hunter2@h/d?connect_timeout=5', 'every wait is bounded'],
  ['postgres://me:hunter2@h/d?hunter2=5', 'a parameter that means nothing here'],
  ['postgres://me:hunter2@h/d?sslmode=verify-full&sslmode=disable', 'It says sslmode twice'],
  ['postgres://me:hunter2@h/d?sslmode=allow', 'sslmode is one of: disable,'],
  ['postgres://me:hunter2@h/d?ssl=maybe', 'ssl is one of: true,'],
])('%s is refused with the reason, and none of it is repeated', (url, detail) => {
  const refused = (): void => assertPostgresUrl(url);
  expect(refused).toThrow(expect.objectContaining({ code: 'invalid_setting', field: 'url' }));
  expect(refused).toThrow(detail);
  expect(refused).not.toThrow(/hunter|auth|12/);
});

test('an error uses the name of the setting in its source', () => {
  const names = { url: 'DATABASE_URL', schema: 'DATABASE_SCHEMA', poolMax: 'POSTGRES_POOL_MAX' };
  expect(() => assertPostgresUrl('postgres://h/d?schema=a', names)).toThrow(/DATABASE_URL.*DATABASE_SCHEMA/);
});

test('the form for messages has neither user nor password', () => {
  expect(nameOfPostgresUrl('postgres://me:secret@db:6432/pantheon?sslmode=verify-full')).toBe(
    'postgres://db:6432/pantheon',
  );
  expect(nameOfPostgresUrl('postgres://me:secret@/pantheon?host=/run/x&password=secret')).toBe(
    'postgres:///run/x/pantheon',
  );
});

test('a schema name needs no quotes, and is none of the system', () => {
  for (const name of ['auth', '_auth', 'tenant_42', 'a'.repeat(63)]) expect(() => assertSchemaName(name)).not.toThrow();
  for (const name of ['', 'Auth', 'a-b', 'a"b', '1a', 'pg_temp', 'information_schema', 'a'.repeat(64), 'a, public'])
    expect(() => assertSchemaName(name), name).toThrow(/invalid_setting/);
});
