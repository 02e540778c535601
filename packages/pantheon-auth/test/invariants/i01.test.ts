import { randomBytes } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { deriveSigningSecret } from '../../src/api-keys/key-derivation.ts';
import { parseKey, secretBytes } from '../../src/api-keys/key-generator.ts';
import { ANY_TENANT } from '../../src/domain/tenant.ts';
import { PantheonError } from '../../src/foundation/errors.ts';
import { SigningKeyring } from '../../src/jwt/signing-keyring.ts';
import { ISSUER, openTestEngine } from '../test-engine.ts';

/** Every form in which somebody could have written these bytes down. */
function formsOf(bytes: Buffer): string[] {
  return [
    bytes.toString('latin1'),
    bytes.toString('hex'),
    bytes.toString('base64').slice(0, 40),
    bytes.toString('base64url').slice(0, 40),
  ];
}

/** Everything that must be nowhere once a key was made. The start of the string is public, so it is left out. */
function secretsOf(key: string): string[] {
  const parsed = parseKey(key);
  if (parsed === null) throw new Error('not a key');
  const bytes = secretBytes(parsed);
  return [
    parsed.secret,
    parsed.secret.slice(0, 24),
    parsed.secret.slice(-24),
    ...formsOf(bytes),
    ...formsOf(deriveSigningSecret(bytes, parsed.id)),
  ];
}

test('I1: no raw secret is in the store, the log, errors or events after any step in the life of a key', async () => {
  await using engine = await openTestEngine();
  const { auth, dataDir, clock } = engine;
  const secrets: string[] = ['VeryPrivateMetadata', 'VeryPrivateClaim'];
  const told: unknown[] = [];
  const { masterKey } = engine;
  secrets.push(masterKey, ...formsOf(Buffer.from(masterKey, masterKey.length === 64 ? 'hex' : 'base64url')));

  const keep = (key: string): string => {
    secrets.push(...secretsOf(key));
    return key;
  };
  const look = async (): Promise<void> => {
    told.push(await auth.events.list('default', { limit: 200 }), await auth.events.list('system', { limit: 200 }));
    // Owners see their own metadata again; what is looked for there are credentials.
    const shown = inspect(told, { depth: 20, maxArrayLength: null, maxStringLength: null }) + JSON.stringify(told);
    const written = (await engine.stored()) + engine.logged.join('\n');
    for (const [at, secret] of secrets.entries()) {
      expect(written.includes(secret), `form ${at} is stored or in the log`).toBe(false);
      if (!secret.startsWith('VeryPrivate')) expect(shown.includes(secret), `form ${at} was told`).toBe(false);
    }
  };
  const refused = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      told.push(await work());
    } catch (error) {
      told.push(error, String(error), error instanceof PantheonError ? { ...error } : null);
    }
  };

  let rootKey = '';
  const write = (key: string): void => {
    rootKey = keep(key);
  };
  await auth.bootstrap({ read: () => null, write });
  await look();
  const input = {
    userId: 'u',
    name: 'n',
    permissions: ['docs:read'],
    metadata: { note: 'VeryPrivateMetadata' },
    jwt: { algorithm: 'HS256' as const, audience: [ISSUER], customClaims: { note: 'VeryPrivateClaim' } },
    rotation: { overlap: '1h' },
  };
  const made = await auth.keys.create(input, { idempotencyKey: 'one' });
  keep(made.key);
  await look();
  const { key, apiKey } = await auth.keys.create(input, { idempotencyKey: 'one' });
  keep(key);
  await look();
  for (const credential of [rootKey, made.key, key, `${key}x`, key.slice(1), key.replace('live', 'test')]) {
    for (const tenant of [ANY_TENANT, 'default'] as const)
      await refused(() => auth.verify({ key: credential, tenant }));
    await refused(() =>
      auth.authenticate({ url: `/?key=${credential}`, header: () => [], address: null, requestId: 'r' }),
    );
    await refused(() =>
      auth.authenticate({
        url: '/',
        header: (name) => (name === 'x-api-key' ? [credential] : []),
        address: null,
        requestId: 'r',
      }),
    );
    await refused(() => auth.keys.get(credential));
    await refused(() => auth.keys.list({ q: credential }));
    await refused(() => auth.tokens.verify({ token: credential }));
    await refused(() => auth.keys.create({ userId: 'u', name: 'n', [credential]: 1 } as never));
    await refused(() => auth.keys.create({ userId: 'u', name: 'n', permissions: [credential] }));
  }
  await look();
  const exchange = await auth.tokens.exchange({ key });
  if (exchange.issued) secrets.push(exchange.token.token.split('.')[2] ?? '');
  await look();
  const rotation = await auth.rotation.rotate(apiKey.id, {}, { idempotencyKey: 'two' });
  keep(rotation.key);
  await look();
  await auth.keys.update(apiKey.id, { jwt: { algorithm: 'ES256' } });
  await auth.keys.suspend(apiKey.id, { reason: 'looking' });
  await auth.tokens.rotateSigningKey('ES256');
  await look();
  await auth.keys.revoke(apiKey.id);
  clock.advance(2_000);
  clock.setWall(clock.now() - 60_000);
  await refused(() => auth.verify({ key: rotation.key }));
  await engine.sql(`update api_keys set name = 'x'`);
  const fresh = await engine.openAgain();
  await refused(() => fresh.verify({ key: rotation.key }));
  await look();
  expect(inspect(auth, { depth: 20, showHidden: true }).includes(rotation.key)).toBe(false);
  await fresh.close();
  await look();

  // And what was made was in fact looked at.
  expect(engine.logged.join()).toContain('the clock was set back');
  expect(await engine.stored()).toContain(apiKey.id);
  expect(readdirSync(dataDir).every((name) => (statSync(join(dataDir, name)).mode & 0o077) === 0)).toBe(true);
  expect((await engine.stored()).includes(randomBytes(16).toString('latin1'))).toBe(false);
});

test('I1: a private signing key is in no form in the store, the log or the published keys', async () => {
  await using engine = await openTestEngine();
  const forms: string[] = [];
  const original = SigningKeyring.prototype.signer;
  // The only way to the private keys is the one the engine itself goes.
  SigningKeyring.prototype.signer = function (algorithm) {
    const found = original.call(this, algorithm);
    const jwk = found.privateKey.export({ format: 'jwk' });
    forms.push(...formsOf(Buffer.from(String(jwk.d), 'base64url').subarray(0, 32)));
    return found;
  };
  try {
    for (const algorithm of ['ES256', 'Ed25519', 'RS256'] as const) {
      const { key } = await engine.auth.keys.create({ userId: 'u', name: 'n', jwt: { algorithm } });
      await engine.auth.tokens.exchange({ key });
    }
  } finally {
    SigningKeyring.prototype.signer = original;
  }
  expect(forms).toHaveLength(12);
  const written = (await engine.stored()) + JSON.stringify(engine.auth.tokens.jwks()) + engine.logged.join();
  for (const form of forms) expect(written.includes(form)).toBe(false);
});
