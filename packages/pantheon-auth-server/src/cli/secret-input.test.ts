import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { APIKeyGenerator, PantheonError } from 'pantheon-auth';
import { expect, onTestFinished, test } from 'vitest';
import { readSecret, readSecretFile, readTextFile, refuseSecretArguments } from './secret-input.ts';

const { key: KEY } = new APIKeyGenerator().generateKey();
const TOKEN = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl';

function stdinOf(text: string, isTTY = false): NodeJS.ReadStream {
  const stream = new PassThrough();
  stream.end(text);
  return Object.assign(stream, { isTTY, setRawMode: () => stream }) as unknown as NodeJS.ReadStream;
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'pantheon-secret-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function read(options: { file?: string; value?: string; stdin?: string; isTTY?: boolean }) {
  const warnings: string[] = [];
  const stderr = new PassThrough().setEncoding('utf8');
  return readSecret({
    name: 'key',
    file: options.file,
    variable: { name: 'PANTHEON_AUTH_SUBJECT_KEY', value: options.value },
    stdin: stdinOf(options.stdin ?? '', options.isTTY),
    stderr,
    onWarning: (warning) => warnings.push(warning),
  }).then((secret) => ({ secret: secret.reveal(), shown: [stderr.read(), stderr.read()].join(''), warnings }));
}

const unexpected = (warning: string): void => {
  throw new Error(warning);
};

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.catch((caught: unknown) => caught);
  if (!(error instanceof PantheonError)) throw new Error('it is refused', { cause: error });
  expect(error.message).not.toContain(KEY);
  return error.message;
}

test('a file is used before the environment, and the environment before standard input', async () => {
  const file = join(folder(), 'key');
  writeFileSync(file, 'from-file\n');
  expect(await read({ file, value: 'from-variable', stdin: 'from-stdin' })).toMatchObject({ secret: 'from-file' });
  expect(await read({ value: 'from-variable', stdin: 'from-stdin' })).toMatchObject({ secret: 'from-variable' });
  expect(await read({ stdin: 'from-stdin\n' })).toMatchObject({ secret: 'from-stdin' });
  expect(await read({ file: '-', value: 'from-variable', stdin: 'from-stdin' })).toMatchObject({
    secret: 'from-stdin',
  });
});

test('at a terminal the secret is requested and not shown', async () => {
  const { secret, shown } = await read({ stdin: `${KEY}\n`, isTTY: true });
  expect(secret).toBe(KEY);
  expect(shown).toBe('The key (not shown): \n');
});

test('an interrupted prompt gives nothing', async () => {
  expect(await refusal(read({ stdin: `${KEY.slice(0, 20)}\u0003`, isTTY: true }))).toContain('Interrupted');
});

test('an empty text, two lines and a text with spaces are refused and not repeated', async () => {
  expect(await refusal(read({ stdin: ' \n' }))).toContain('Nothing came from standard input');
  expect(await refusal(read({ stdin: `${KEY}\n${KEY}\n` }))).toContain('not one key alone');
  expect(await refusal(read({ value: `key ${KEY}` }))).toContain('PANTHEON_AUTH_SUBJECT_KEY');
  expect(await refusal(read({ stdin: '', isTTY: true }))).toContain('Nothing came');
});

test('endless input is cut off', async () => {
  expect(await refusal(read({ stdin: 'x'.repeat(20_000) }))).toContain('More than 16384 bytes');
});

test('a missing or unreadable file is reported with its name', async () => {
  const path = folder();
  expect(await refusal(readSecretFile(join(path, 'none'), 'key-file', unexpected))).toContain('none does not exist');
  mkdirSync(join(path, 'inner'));
  expect(await refusal(readSecretFile(join(path, 'inner'), 'key-file', unexpected))).toContain('cannot be read');
  writeFileSync(join(path, 'large'), 'x'.repeat(11));
  expect(await refusal(readTextFile(join(path, 'large'), 'metadata', 10))).toContain('More than 10 bytes');
});

test.each([0o644, 0o640, 0o604, 0o620, 0o660, 0o777])('a key file of mode %o is used with a warning', async (mode) => {
  const file = join(folder(), 'key');
  writeFileSync(file, KEY);
  chmodSync(file, mode);
  const { secret, warnings } = await read({ file });
  expect(secret).toBe(KEY);
  expect(warnings).toEqual([`The file ${file} is open to others than its owner. Run: chmod 600 ${file}`]);
});

test.each([0o600, 0o400, 0o700])('a key file of mode %o is used without a warning', async (mode) => {
  const file = join(folder(), 'key');
  writeFileSync(file, KEY);
  chmodSync(file, mode);
  expect((await read({ file })).warnings).toEqual([]);
});

test('a pipe is accepted like a file', async () => {
  const path = join(folder(), 'pipe');
  expect(spawnSync('mkfifo', [path]).status).toBe(0);
  const reading = readSecretFile(path, 'key-file', unexpected);
  writeFileSync(path, `${KEY}\n`);
  expect((await reading).reveal()).toBe(KEY);
});

test('an argument that looks like a secret is refused at any position, and not repeated', () => {
  for (const secret of [KEY, `--key=${KEY}`, KEY.slice(0, 40), `for ${KEY}`, KEY.replace('pan', 'acme'), TOKEN]) {
    expect(() => refuseSecretArguments(['keys', 'verify', secret])).toThrow(/looks like a (?:key|token)/);
    expect(() => refuseSecretArguments([secret])).not.toThrow(secret);
  }
});

test('ids, hints and paths are not taken for secrets', () => {
  const id = KEY.slice(9, 25);
  refuseSecretArguments(['keys', 'get', id, KEY.slice(0, 25), '--out', './pan_live_production.key', 'my_test_key']);
  expect(id).toHaveLength(16);
});
