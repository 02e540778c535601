/** The verifier that the documents show, run as it stands against tokens of a running service. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { CreateKeyInput } from 'pantheon-auth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openScratchService, type ScratchService } from '../packages/pantheon-auth-server/test/scratch-service.ts';
import { blocksOf, readDocuments } from '../tools/docs/markdown.ts';
import { freePort } from '../tools/servers/free-port.ts';

const ROOT = join(import.meta.dirname, '..');
const ORDERS = 'https://orders.example.com';

const verifiers = readDocuments(ROOT).flatMap(({ path, text }) =>
  blocksOf(text)
    .filter(({ language, code }) => language === 'ts' && code.includes('jwtVerify'))
    .map(({ code }) => ({ path, code })),
);

test('every verifier in the documents checks the tenant and the environment', () => {
  expect(verifiers.map(({ path }) => path)).toEqual(['docs/tokens.md']);
  for (const { code, path } of verifiers)
    for (const claim of ['tenant_id', 'environment', 'issuer', 'audience', 'at+jwt', 'algorithms'])
      expect(code, path).toContain(claim);
  const page = readFileSync(join(ROOT, 'docs/tokens.md'), 'utf8');
  expect(page).toMatch(/\| `tenant_id`, `environment` \| [^|]*must check both/);
});

describe('the verifier of docs/tokens.md', () => {
  let service: ScratchService;
  let folder = '';
  let permissionsOf: (token: string) => Promise<readonly string[]>;

  beforeAll(async () => {
    const port = await freePort();
    service = await openScratchService({ PORT: String(port) });
    await service.app.listen({ port, host: '127.0.0.1' });
    // Where its packages resolve as for a reader.
    const cache = join(ROOT, 'node_modules/.cache');
    mkdirSync(cache, { recursive: true });
    folder = mkdtempSync(join(cache, 'verifier-'));
    const file = join(folder, 'verifier.mjs');
    const [shown] = verifiers;
    if (shown === undefined) throw new Error('the document shows a verifier');
    const code = shown.code.replace("'https://auth.example.com'", JSON.stringify(service.config.publicUrl));
    expect(code).not.toBe(shown.code);
    writeFileSync(file, stripTypeScriptTypes(code));
    ({ permissionsOf } = (await import(pathToFileURL(file).href)) as { permissionsOf: typeof permissionsOf });
    await service.auth.tenants.create({ id: 'acme' });
  });
  afterAll(async () => {
    await service.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function tokenOf(input: Partial<CreateKeyInput>, tenantId = 'default'): Promise<string> {
    const jwt = { audience: [ORDERS], ...input.jwt };
    const { apiKey } = await service.create({ permissions: ['orders:*'], ...input, jwt }, tenantId);
    return (await service.auth.tokens.issue({ tenantId, keyId: apiKey.id })).token;
  }

  test.each(['ES256', 'Ed25519', 'RS256'] as const)('accepts a token that is for it: %s', async (algorithm) => {
    expect(await permissionsOf(await tokenOf({ jwt: { algorithm } }))).toEqual(['orders:*']);
  });

  test('refuses one of another tenant, although its signature is valid', async () => {
    await expect(permissionsOf(await tokenOf({}, 'acme'))).rejects.toThrow('another tenant');
  });

  test('refuses one of the test environment', async () => {
    await expect(permissionsOf(await tokenOf({ environment: 'test' }))).rejects.toThrow('another environment');
  });

  test('refuses one for another audience, one that a key signed itself, and one that was changed', async () => {
    await expect(permissionsOf(await tokenOf({ jwt: { audience: ['https://else.example'] } }))).rejects.toThrow();
    await expect(permissionsOf(await tokenOf({ jwt: { algorithm: 'HS256' } }))).rejects.toThrow();
    const [header, payload, signature] = (await tokenOf({})).split('.');
    const claims = JSON.parse(Buffer.from(payload ?? '', 'base64url').toString()) as object;
    const forged = Buffer.from(JSON.stringify({ ...claims, scope: '*' })).toString('base64url');
    await expect(permissionsOf(`${header}.${forged}.${signature}`)).rejects.toThrow();
  });
});
