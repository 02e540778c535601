import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { HOUR_MS } from '../foundation/clock.ts';
import { TestClock, testAuth } from './index.ts';

const folders = (): string[] =>
  ['/dev/shm', tmpdir()]
    .filter((path) => existsSync(path))
    .flatMap((path) => readdirSync(path).map((name) => `${path}/${name}`))
    .filter((path) => path.includes(`pantheon-auth-test-${process.pid}-`));

test('it is a complete instance, with a store and a clock of its own, and nothing is left of it', async () => {
  {
    await using one = await testAuth();
    await using other = await testAuth();
    const { key, apiKey } = await one.auth.keys.create({ userId: 'u', name: 'n', expiresIn: '1h' });
    expect(await one.auth.verify({ key })).toMatchObject({ valid: true });
    expect(await other.auth.verify({ key })).toMatchObject({ valid: false, denial: { code: 'unknown' } });
    expect((await one.auth.tokens.exchange({ key })).issued).toBe(true);
    one.clock.advance(HOUR_MS);
    expect(await one.auth.verify({ key })).toMatchObject({ denial: { code: 'expired' } });
    const { items } = await one.auth.events.list('default', { subjectId: apiKey.id });
    expect(items).toMatchObject([{ type: 'key.created', at: new Date(Date.UTC(2030, 0, 1)) }]);
    expect(folders()).toHaveLength(2);
  }
  // Nor of the data that the later ones start from: a runner that kills its workers would leave it behind.
  expect(folders()).toEqual([]);
});

test('it takes the options of an instance: clock, issuer, master key, prefix', async () => {
  const clock = new TestClock(Date.UTC(1999, 0, 1));
  await using own = await testAuth({
    clock,
    issuer: 'https://mine.example',
    masterKey: randomBytes(32).toString('hex'),
    keyPrefix: 'mine',
  });
  expect(own.clock).toBe(clock);
  expect(own.auth.issuer).toBe('https://mine.example');
  const { key } = await own.auth.keys.create({ userId: 'u', name: 'n' });
  expect(key).toMatch(/^mine_live_/);
});

test('an instance that cannot start leaves no files', async () => {
  const before = folders();
  await expect(testAuth({ keyPrefix: 'Not A Prefix' })).rejects.toMatchObject({
    code: 'invalid_setting',
    field: 'keyPrefix',
  });
  expect(folders()).toEqual(before);
});

test('neither it nor the main entry needs fast-check, and SQLite is loaded only when it is used, without a warning', () => {
  const index = new URL('./index.ts', import.meta.url).href;
  const root = new URL('../index.ts', import.meta.url).href;
  const program = `
    import { registerHooks } from 'node:module';
    const asked = [];
    registerHooks({ resolve(specifier, context, next) { asked.push(specifier); return next(specifier, context); } });
    const { testAuth } = await import(${JSON.stringify(index)});
    await import(${JSON.stringify(root)});
    const before = asked.some((name) => name === 'node:sqlite');
    const { auth, close } = await testAuth();
    const { key } = await auth.keys.create({ userId: 'u', name: 'n' });
    const { valid } = await auth.verify({ key });
    await close();
    console.log(JSON.stringify({ before, after: asked.includes('node:sqlite'), check: asked.includes('fast-check'), valid }));
  `;
  const args = ['--conditions=source', '--input-type=module', '-e', program];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({ before: false, after: true, check: false, valid: true });
});
