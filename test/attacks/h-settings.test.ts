/** Settings that look right and are not: the start stops and names them, and nothing new is made. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { createPantheonAuth } from 'pantheon-auth';
import { afterAll, expect, test } from 'vitest';
import { run } from '../../packages/pantheon-auth-server/src/cli/program.ts';

const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-settings-'));
const home = process.cwd();
process.chdir(folder);
afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

async function serve(environment: Readonly<Record<string, string>>) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const stdin = Object.assign(Readable.from(['']), { isTTY: false }) as unknown as NodeJS.ReadStream;
  const code = await run(['serve'], { stdin, stdout, stderr, variables: {}, environment });
  stdout.end();
  stderr.end();
  return { code, out: await text(stdout), err: await text(stderr) };
}

const BAD: readonly ((path: string) => string)[] = [
  (path) => `"${path}"`,
  (path) => `'${path}'`,
  (path) => `${path}"`,
  (path) => ` ${path}`,
  (path) => `${path} `,
  (path) => `${path}\r`,
  (path) => `${path}\n`,
  (path) => `\ufeff${path}`,
  (path) => `\u00ef\u00bb\u00bf${path}`,
  (path) => `${path}\u200b`,
  (path) => `~/${path}`,
  (path) => `$HOME/${path}`,
  () => '',
  () => ' ',
];

test.each(['DATA_DIR', 'ROOT_KEY_FILE', 'MASTER_KEY_FILE'])('%s', async (name) => {
  for (const write of BAD) {
    const value = write('store');
    const data: Readonly<Record<string, string>> =
      name === 'DATA_DIR' ? {} : { PANTHEON_AUTH_DATA_DIR: join(folder, 'data') };
    const { code, out, err } = await serve({ PANTHEON_AUTH_PORT: '8787', ...data, [`PANTHEON_AUTH_${name}`]: value });
    expect([value, code, out]).toEqual([value, 2, '']);
    expect(err.trim().split('\n')).toEqual([
      expect.stringMatching(new RegExp(`^pantheon-auth: invalid_setting: .*\\(${name}\\)`)),
    ]);
    expect(readdirSync(folder)).toEqual([]);
  }
});

test('a setting whose name begins with an invisible character is refused', async () => {
  for (const prefix of ['\ufeff', ' ', '\u200b', 'export ']) {
    const { code, err } = await serve({ [`${prefix}PANTHEON_AUTH_DATA_DIR`]: join(folder, 'data') });
    expect([prefix, code]).toEqual([prefix, 2]);
    expect(err).toContain('(DATA_DIR)');
    expect(readdirSync(folder)).toEqual([]);
  }
});

test('the options of the library are checked in the same way', async () => {
  for (const write of BAD)
    for (const name of ['dataDir', 'databaseFile', 'masterKeyFile']) {
      const options = { dataDir: join(folder, 'data'), issuer: 'http://localhost:8787', [name]: write('store') };
      await expect(createPantheonAuth(options)).rejects.toMatchObject({ code: 'invalid_setting', field: name });
      expect(existsSync(join(folder, 'data'))).toBe(false);
      expect(readdirSync(folder)).toEqual([]);
    }
});
