/** `id-tags` on a data folder of its own. What a change does to keys is `packages/pantheon-auth/test/id-tags.test.ts`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { createPantheonAuth } from 'pantheon-auth';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXIT } from './exit-codes.ts';
import { run } from './program.ts';
import type { CliContext } from './session.ts';

const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-id-tags-'));
const dataDir = join(folder, 'data');

beforeAll(async () => {
  await (await createPantheonAuth({ dataDir, issuer: 'http://localhost:8787' })).close();
}, 30_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function idTags(...args: readonly string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const stdin = new PassThrough() as unknown as CliContext['stdin'];
  const code = await run(['id-tags', ...args], { stdin, stdout, stderr, variables: {}, environment: {} });
  const textOf = (stream: PassThrough): string => String(stream.read() ?? '');
  return { code, out: textOf(stdout), err: textOf(stderr) };
}

test('lists, adds and retires the tag secrets of the store, and records the reason in the audit trail', async () => {
  const on = ['--data-dir', dataDir];
  expect(await idTags('list', ...on)).toMatchObject({
    code: EXIT.ok,
    out: expect.stringMatching(/1 +\S+Z +active\n$/),
  });
  const added = await idTags('add', '--json', '--reason', 'a backup was lost', ...on);
  expect(JSON.parse(added.out)).toMatchObject({ items: [{ number: 2, retiredAt: null, quarantined: false }] });
  expect(await idTags('retire', '1', ...on)).toMatchObject({ code: EXIT.ok, out: expect.stringContaining('retired') });
  const listed = await idTags('list', '--json', ...on);
  expect(JSON.parse(listed.out)).toMatchObject({ items: [{ number: 2, retiredAt: null }, { number: 1 }] });
  const auth = await createPantheonAuth({ dataDir, issuer: 'http://localhost:8787' });
  const { items } = await auth.events.list('system', { type: 'id_tag_secret.added', limit: 1 });
  expect(items).toMatchObject([{ reason: 'a backup was lost' }]);
  await auth.close();
}, 30_000);

test('reports in one line a wrong number, an unknown one, and a folder without a store', async () => {
  const on = ['--data-dir', dataDir];
  const none = await idTags('retire', 'one', ...on);
  expect(none).toMatchObject({ code: EXIT.usage, err: expect.stringContaining('number') });
  expect(await idTags('retire', '99', ...on)).toMatchObject({ code: EXIT.refused });
  const elsewhere = await idTags('list', '--data-dir', join(folder, 'elsewhere'));
  expect(elsewhere).toMatchObject({ code: EXIT.unavailable, err: expect.stringContaining('There is no database') });
}, 30_000);
