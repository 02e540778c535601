/** Clients that others generate from the API file compile, and work against the running service. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openScratchService, type ScratchService } from '../../packages/pantheon-auth-server/test/scratch-service.ts';
import { ROOT } from '../run-command.ts';
import { GENERATED_CLIENTS, type GeneratedClient, PUBLIC_URL, type Story } from './clients.ts';

const HERE = import.meta.dirname;
/** Generating and compiling take a few seconds each, on a busy machine many. */
const TIMEOUT_MS = 180_000;

let service: ScratchService;
let baseUrl = '';
let folder = '';
beforeAll(async () => {
  service = await openScratchService({ PUBLIC_URL });
  await service.app.listen({ port: 0, host: '127.0.0.1' });
  baseUrl = `http://127.0.0.1:${(service.app.server.address() as AddressInfo).port}`;
  folder = mkdtempSync(join(tmpdir(), 'generated-clients-'));
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const { text } = await service.call('GET', '/openapi.json', { key: null });
  writeFileSync(join(folder, 'openapi.json'), text);
});
afterAll(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

const run = promisify(execFile);

/** The command of a package of the root, or of this folder. */
function commandOf(name: string): string {
  const at = [ROOT, HERE].map((base) => join(base, 'node_modules', name)).find(existsSync) ?? name;
  const { bin } = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8')) as {
    bin: string | Readonly<Record<string, string>>;
  };
  return join(at, typeof bin === 'string' ? bin : (Object.values(bin)[0] ?? ''));
}

/** @throws with all that the command printed. */
async function command(name: string, args: readonly string[], cwd: string): Promise<string> {
  // Nothing is told to anybody, and nothing is asked for.
  const env = { ...process.env, CI: 'true', DO_NOT_TRACK: '1', REDOCLY_TELEMETRY: 'off', NO_COLOR: '1' };
  try {
    const { stdout, stderr } = await run(process.execPath, [commandOf(name), ...args], { cwd, env });
    return stdout + stderr;
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${name} failed:\n${stdout}${stderr}`);
  }
}

const COMPILER_OPTIONS = {
  strict: true,
  noEmit: true,
  target: 'es2024',
  lib: ['es2024', 'dom', 'dom.iterable'],
  module: 'nodenext',
  types: [],
  // The compiler is ours; what is compiled is theirs.
  skipLibCheck: true,
};

async function generate(client: GeneratedClient): Promise<string> {
  const at = join(folder, client.name.replace(/\W+/g, '-'));
  mkdirSync(at);
  symlinkSync(join(folder, 'openapi.json'), join(at, 'openapi.json'));
  const files = {
    'package.json': '{ "type": "module" }',
    'tsconfig.json': JSON.stringify({ compilerOptions: COMPILER_OPTIONS, include: ['**/*.ts'] }),
    'program.ts': client.program,
    ...client.files?.(baseUrl),
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(at, name), text);
  await command(client.generator, client.generate(baseUrl), at);
  return at;
}

test('redocly reports nothing about the file and its examples', { timeout: TIMEOUT_MS }, async () => {
  const told = await command('@redocly/cli', ['lint', '--config', join(HERE, 'redocly.yaml'), 'openapi.json'], folder);
  expect(told).toContain('Your API description is valid');
  expect(told).not.toMatch(/\b(?:warning|error)s?\b/i);
});

describe.concurrent.each(GENERATED_CLIENTS.map((client) => [client.name, client] as const))('%s', (_name, client) => {
  test('the client compiles, and creates, verifies, rotates and revokes', { timeout: TIMEOUT_MS }, async () => {
    const at = await generate(client);
    expect(await command('typescript', ['-p', at], ROOT)).toBe('');
    const { default: story } = (await import(join(at, 'program.ts'))) as {
      default: (baseUrl: string, key: string) => Promise<Story>;
    };
    expect(await story(baseUrl, service.rootKey)).toEqual({
      created: { id: expect.any(String), permissions: ['docs:read'] },
      verified: { valid: true, version: 2 },
      rotated: { version: 2, previous: 1 },
      listed: 1,
      token: 'Bearer',
      revoked: 'revoked',
      afterwards: 'revoked',
      missing: 'not_found',
    } satisfies Record<keyof Story, unknown>);
  });
});
