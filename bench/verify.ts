/**
 * Warm verification in process beside `better-auth` on the same kind of database and beside its own floor: the SHA-256
 * of the key and one look-up in a map. Also tokens beside the bare cryptography. `npm run bench:verify`.
 */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, hash, sign, verify } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { createPantheonAuth } from 'pantheon-auth';
import { interleave, median, ratio, report } from './interleave.ts';

const ROUNDS = 60;
const PEERS = join(import.meta.dirname, 'peers');

interface PeerVerifier {
  readonly verify: () => Promise<void>;
}

const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-bench-'));
const auth = await createPantheonAuth({ dataDir: join(folder, 'ours'), issuer: 'https://auth.example.com' });
const { key, apiKey } = await auth.keys.create({
  userId: 'user-1',
  name: 'bench',
  permissions: ['docs:read', 'docs:write'],
  // Never reached: what is measured is counting, not refusing.
  rateLimits: [{ name: 'burst', limit: 1_000_000_000, window: '1m' }],
});
const exchange = await auth.tokens.exchange({ key });
if (!exchange.issued) throw new Error('the exchange was refused');
const { token } = exchange.token;
const metadata = {
  keyId: apiKey.id,
  algorithm: 'ES256',
  issuer: auth.issuer,
  audience: [auth.issuer],
  customClaims: {},
} as const;
const peer = await openPeer(join(folder, 'peer.db'));

/** A different token each time, made before the measurement, so that none was seen before. */
async function freshTokens(count: number): Promise<string[]> {
  const tokens: string[] = [];
  for (let made = 0; made < count; made += 1) {
    const issued = await auth.tokens.exchange({ key });
    if (issued.issued) tokens.push(issued.token.token);
  }
  return tokens;
}

const CALLS = { warm: 4_000, token: 4_000, fresh: 60, signed: 100, peer: 6 } as const;
const fresh = await freshTokens(CALLS.fresh * (ROUNDS + 10));
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const signer = createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' }));
const input = Buffer.from(token.slice(0, token.lastIndexOf('.')));
const dsa = { key: signer, dsaEncoding: 'ieee-p1363' } as const;
const signature = sign('sha256', input, dsa);
const known = new Map([[hash('sha256', key), true]]);
const ok = (valid: boolean): void => {
  if (!valid) throw new Error('what is measured must succeed');
};
const repeat = (work: () => void) => (calls: number) => {
  for (let call = 0; call < calls; call += 1) work();
};
const repeatAsync = (work: () => Promise<void>) => async (calls: number) => {
  for (let call = 0; call < calls; call += 1) await work();
};

const times = await interleave(
  [
    { name: 'floor', calls: CALLS.warm, run: repeat(() => ok(known.get(hash('sha256', key)) === true)) },
    {
      name: 'key',
      calls: CALLS.warm,
      run: repeatAsync(async () => ok((await auth.verify({ key, permissions: ['docs:read'] })).valid)),
    },
    {
      name: 'token seen',
      calls: CALLS.token,
      run: repeatAsync(async () => ok((await auth.tokens.verify({ token })).valid)),
    },
    {
      name: 'token new',
      calls: CALLS.fresh,
      run: repeatAsync(async () => ok((await auth.tokens.verify({ token: fresh.pop() ?? '' })).valid)),
    },
    {
      name: 'crypto.verify',
      calls: CALLS.fresh,
      run: repeat(() => ok(verify('sha256', input, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature))),
    },
    { name: 'crypto.sign', calls: CALLS.signed, run: repeat(() => ok(sign('sha256', input, dsa).length === 64)) },
    {
      name: 'token signed',
      calls: CALLS.signed,
      run: repeat(() =>
        ok(auth.generator.generateJWTFromKey(apiKey, { ...metadata, audience: [...metadata.audience] }).length > 0),
      ),
    },
    { name: 'better-auth', calls: CALLS.peer, run: repeatAsync(peer.verify) },
  ],
  ROUNDS,
);

console.log(`Node ${process.version}, ${ROUNDS} interleaved rounds, median per call:`);
for (const name of times.keys()) console.log(`  ${name.padEnd(16)} ${median(times, name).toFixed(2).padStart(10)} µs`);
console.log('Ratios, round by round: median (quarters)');
console.log(report('better-auth / warm key verification', ratio(times, 'better-auth', 'key'), '>= 150'));
console.log(report('warm key verification / floor', ratio(times, 'key', 'floor'), '<= 8, aim 4'));
console.log(report('token seen before / floor', ratio(times, 'token seen', 'floor'), '<= 3, aim 2'));
console.log(
  report('token at first sight / crypto.verify (ES256)', ratio(times, 'token new', 'crypto.verify'), '<= 1.3, aim 1.1'),
);
console.log(
  report('token signed / crypto.sign (ES256)', ratio(times, 'token signed', 'crypto.sign'), '<= 1.3, aim 1.1'),
);

await auth.close();
rmSync(folder, { recursive: true });

/** The peer as its own documentation sets it up, with one rate limit that is never reached. */
async function openPeer(file: string): Promise<PeerVerifier> {
  if (!existsSync(join(PEERS, 'node_modules'))) {
    console.log('Installing what is compared with …');
    execFileSync('npm', ['ci', '--legacy-peer-deps', '--no-workspaces'], { cwd: PEERS, stdio: 'inherit' });
  }
  const require = createRequire(join(PEERS, 'package.json'));
  const load = (name: string): Promise<Record<string, (...input: unknown[]) => unknown>> =>
    import(pathToFileURL(require.resolve(name)).href);
  const [{ betterAuth }, { apiKey: plugin }, { getMigrations }] = await Promise.all([
    load('better-auth'),
    load('@better-auth/api-key'),
    load('better-auth/db/migration'),
  ]);
  if (!betterAuth || !plugin || !getMigrations) throw new Error('the peer is not what it was when this was written');
  const database = new DatabaseSync(file);
  // WAL without a sync at each commit: kinder to the peer, which writes at each verification, than what we ask of ourselves.
  database.exec('pragma journal_mode = wal; pragma synchronous = normal');
  const rateLimit = { enabled: true, timeWindow: 60_000, maxRequests: 1_000_000_000 };
  const secret = 'only-for-this-benchmark-0123456789';
  const options = {
    database,
    secret,
    baseURL: 'http://localhost:3000',
    emailAndPassword: { enabled: true },
    plugins: [plugin({ rateLimit })],
    telemetry: { enabled: false },
  };
  const instance = betterAuth(options) as {
    api: Record<string, (input: object) => Promise<Record<string, unknown>>>;
    options: object;
  };
  await ((await getMigrations(instance.options)) as { runMigrations: () => Promise<void> }).runMigrations();
  const { signUpEmail, createApiKey, verifyApiKey } = instance.api;
  if (!signUpEmail || !createApiKey || !verifyApiKey)
    throw new Error('the peer is not what it was when this was written');
  const { user } = (await signUpEmail({
    body: { email: 'bench@example.com', password: 'correct horse battery', name: 'bench' },
  })) as { user: { id: string } };
  const created = await createApiKey({
    body: { userId: user.id, name: 'bench', permissions: { docs: ['read', 'write'] } },
  });
  const body = { key: created['key'], permissions: { docs: ['read'] } };
  return {
    verify: async () => {
      const { valid } = await verifyApiKey({ body });
      if (valid !== true) throw new Error('the peer refused its own key');
    },
  };
}
