/**
 * `createPantheonAuth`: the only file that picks implementations. Everything else receives what it needs. Starts in the
 * order in which things depend on each other, and stops in the reverse, losing no usage.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Administrators } from './api-keys/administrators.ts';
import { AnsweredRequests } from './api-keys/answered-requests.ts';
import type { APIKey } from './api-keys/api-key.ts';
import { CallerGuard } from './api-keys/caller-guard.ts';
import { ConfirmedFacts, STALENESS_MAX_MS_DEFAULT } from './api-keys/confirmed-facts.ts';
import { ExposedKeys } from './api-keys/exposed-keys.ts';
import { KeyChanges } from './api-keys/key-changes.ts';
import { KeyDescendants } from './api-keys/key-descendants.ts';
import {
  APIKeyGenerator,
  DEFAULT_BRAND,
  type GeneratedKey,
  generatedFrom,
  generateKey,
  parseBrand,
} from './api-keys/key-generator.ts';
import { KeyManager, type KeyManagerDeps, PROCESS_CALLER } from './api-keys/key-manager.ts';
import { KeyRotation } from './api-keys/key-rotation.ts';
import { KeyStorage } from './api-keys/key-storage.ts';
import { KeyValidator, type Verification, type VerifyRequest } from './api-keys/key-validator.ts';
import { UsageReader } from './api-keys/usage-reader.ts';
import { VerificationCache } from './api-keys/verification-cache.ts';
import type { Circumstances } from './domain/event.ts';
import { DEFAULT_TENANT, SYSTEM_TENANT } from './domain/tenant.ts';
import { EventFeed } from './events/event-feed.ts';
import { EventLog } from './events/event-log.ts';
import { type AuditTrail, EventReader } from './events/event-reader.ts';
import { type Clock, ForwardClock, systemClock } from './foundation/clock.ts';
import { PantheonError } from './foundation/errors.ts';
import { TokenRevocations } from './jwt/revocation.ts';
import { SigningKeyring } from './jwt/signing-keyring.ts';
import { TokenIssuer } from './jwt/token-issuer.ts';
import { TokenVerifier } from './jwt/token-verifier.ts';
import { JwtHandler } from './jwt-handler.ts';
import { Envelope } from './kms/envelope.ts';
import type { KeyEncryption } from './kms/key-encryption.ts';
import { openLocalKms } from './kms/open-local-kms.ts';
import { SealedCursors } from './kms/sealed-cursor.ts';
import { type AuthenticateOptions, type Authentication, Authenticator, type AuthRequest } from './middleware.ts';
import { AddressThrottle } from './rate-limit/address-throttle.ts';
import { MemoryLimiter } from './rate-limit/memory-limiter.ts';
import { type Database, openDatabase } from './storage/database.ts';
import { TenantManager } from './tenants/tenant-manager.ts';
import { TenantStorage } from './tenants/tenant-storage.ts';
import { UsageQueryService } from './usage/usage-query.ts';
import { UsageRecorder } from './usage/usage-recorder.ts';

/** Where warnings and errors go. `pino` fits. Nothing secret is ever passed to it. */
export interface Logger {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface PantheonAuthOptions {
  /** Folder of the database and, unless it is given otherwise, the master key. Made when it does not exist. */
  readonly dataDir: string;
  /** The database file. Default: `pantheon-auth.db` in `dataDir`. */
  readonly databaseFile?: string;
  /** 32 bytes as 64 hex digits, base64 or base64url. Anyone who can read the environment can read it there. */
  readonly masterKey?: string;
  /** Default: `master.key` in `dataDir`; made on the first start, when the database is new. */
  readonly masterKeyFile?: string;
  /** `iss` of tokens: an absolute URL. */
  readonly issuer: string;
  /** Audience of tokens whose key's policy names none. Default: the issuer. */
  readonly audience?: readonly string[];
  /** First part of every key string. Default `pan`. */
  readonly brand?: string;
  /** Keys remembered in memory. About 2 kB each. */
  readonly knownKeysMax?: number;
  readonly logger?: Logger;
  /** For tests. */
  readonly clock?: Clock;
}

/** What can be done within one tenant. */
export interface TenantScope {
  readonly keys: KeyManager;
  readonly rotation: KeyRotation;
}

/** Where the first administrator's key string is kept: the caller's business. */
export interface RootKeyStore {
  /** What was written before, by a start that did not finish or by another process; null: nothing. */
  read(): string | null;
  /** Must be durable when it returns. Throws rather than replace what is there: it may be the only copy. */
  write(key: string): void;
}

export interface PantheonAuth {
  /** Keys of the tenant `default`. */
  readonly keys: KeyManager;
  readonly rotation: KeyRotation;
  readonly tokens: JwtHandler;
  readonly tenants: TenantManager;
  readonly events: AuditTrail;
  /** The brief's generator, able to sign. */
  readonly generator: APIKeyGenerator;
  readonly issuer: string;
  readonly audience: readonly string[];
  tenant(id: string): TenantScope;
  /** Whether a key may act now. */
  verify(request: VerifyRequest): Promise<Verification>;
  /** Finds the credential of a request, verifies it and shapes the refusal. */
  authenticate(request: AuthRequest, options?: AuthenticateOptions): Promise<Authentication>;
  /** Logs `key.exposed_in_url` if the text is the string of a key: it was sent where it is written down. */
  reportExposed(key: string, by: Circumstances): Promise<void>;
  /** Makes the first administrator's key if there never was one. Null: there was. */
  bootstrap(store: RootKeyStore): Promise<APIKey | null>;
  /** Counts of outcomes since the start, for metrics. */
  outcomes(): ReadonlyMap<string, number>;
  /** Asks the store for the head of its log, and catches up with it. @throws PantheonError `store_unavailable`. */
  ping(): Promise<void>;
  /** Stores what was counted, gives back what was reserved, closes the database. */
  close(): Promise<void>;
}

/**
 * Opens or makes the database in `dataDir` and starts everything on it.
 *
 * @throws PantheonError `master_key_missing`, `master_key_mismatch`, `store_unusable`, `schema_too_new`, `invalid_setting`.
 *
 * @example
 * ```ts
 * import { createPantheonAuth } from 'pantheon-auth';
 *
 * const auth = await createPantheonAuth({ dataDir: './data', issuer: 'https://auth.example.com' });
 * const { key, apiKey } = await auth.keys.create({ userId: 'user-1', name: 'deploy', permissions: ['deploy:run'] });
 * const verification = await auth.verify({ key, permissions: ['deploy:run'] });
 * console.log(apiKey.id, verification.valid);
 * await auth.close();
 * ```
 */
export async function createPantheonAuth(options: PantheonAuthOptions): Promise<PantheonAuth> {
  const logger = options.logger ?? SILENT;
  const clock = new ForwardClock(options.clock ?? systemClock, (byMs) =>
    logger.error({ byMs }, 'the clock was set back; going on from the latest time seen'),
  );
  const brand = parseBrand(options.brand ?? DEFAULT_BRAND);
  const issuer = parseIssuer(options.issuer);
  const audience = options.audience?.length ? options.audience : [issuer];

  makeFolder(options.dataDir);
  const database = await openDatabase({
    path: options.databaseFile ?? join(options.dataDir, 'pantheon-auth.db'),
    clock,
    onWarning: (warning) => logger.warn({}, warning),
  });
  try {
    const isNew = (await database.log.head()).seq === 0;
    const kms = await openLocalKms(database.meta, { ...options, isNew, logger });
    return await assemble({
      database,
      kms,
      clock,
      brand,
      issuer,
      audience,
      logger,
      knownKeysMax: options.knownKeysMax,
    });
  } catch (error) {
    await database.close();
    throw error;
  }
}

interface Parts {
  readonly database: Database;
  readonly kms: KeyEncryption;
  readonly clock: ForwardClock;
  readonly brand: string;
  readonly issuer: string;
  readonly audience: readonly string[];
  readonly logger: Logger;
  readonly knownKeysMax: number | undefined;
}

async function assemble(parts: Parts): Promise<PantheonAuth> {
  const { database, clock, brand, issuer, audience, logger } = parts;
  const { ledger } = database;
  const settings = { issuer, audience };
  const sealer = new Envelope({ kms: parts.kms, rows: database.dataKeys, clock });
  const events = new EventLog(database.events, sealer);
  const cursors = new SealedCursors(sealer);

  const keyStorage = new KeyStorage({ rows: database.keys, ledger, events, sealer });
  const tenantStorage = new TenantStorage({ rows: database.tenants, ledger, events });
  const cache = new VerificationCache({
    storage: keyStorage,
    clock,
    ...(parts.knownKeysMax && { knownKeysMax: parts.knownKeysMax }),
  });
  const changes = new KeyChanges({ storage: keyStorage, cache, events });
  const keyring = new SigningKeyring({
    rows: database.signingKeys,
    ledger,
    events,
    sealer,
    clock,
    onQuarantine: (error) => logger.error({ err: error }, 'a signing key cannot be opened; the others go on'),
  });
  const revocations = new TokenRevocations({ rows: database.tokenRevocations, ledger, events, clock });

  const feed = new EventFeed({ log: database.log, clock });
  for (const follower of [cache, keyring, revocations]) feed.follow(follower);
  const stalenessMaxMs = Number(await database.meta.insertOnce('stalenessMaxMs', String(STALENESS_MAX_MS_DEFAULT)));
  const facts = new ConfirmedFacts({ cache, feed, clock, stalenessMaxMs });
  const guard = new CallerGuard({ facts, clock });

  const recorder = new UsageRecorder({
    rows: database.usage,
    clock,
    onError: (error) => logger.error({ err: error }, 'usage was not stored; trying again'),
  });
  const usage = new UsageReader(database.usage, recorder);
  const limiter = new MemoryLimiter({ clock, quotaLedger: database.quota });
  const throttle = new AddressThrottle({ clock });
  const validator = new KeyValidator({ facts, limiter, throttle, usage: recorder, clock, brand });
  const verifier = new TokenVerifier({ validator, feed, keyring, revocations, clock, settings });
  const tokenIssuer = new TokenIssuer({ keyring, clock, settings });
  const tokens = new JwtHandler({
    validator,
    issuer: tokenIssuer,
    verifier,
    keyring,
    revocations,
    feed,
    guard,
    changes,
    cache,
    clock,
    brand,
  });
  const exposed = new ExposedKeys({ validator, ledger, events, clock });
  const authenticator = new Authenticator({ validator, tokens: verifier, brand });

  const answered = new AnsweredRequests({
    rows: database.idempotency,
    changes,
    usage,
    guard,
    clock,
    brand,
  });
  const tenants = new TenantManager({ storage: tenantStorage, cache, guard, cursors, clock });
  const usageReports = new UsageQueryService(database.usage);
  const managerDeps: KeyManagerDeps = {
    storage: keyStorage,
    changes,
    guard,
    administrators: new Administrators({ storage: keyStorage, clock }),
    descendants: new KeyDescendants({ storage: keyStorage, tenants: tenantStorage, changes, clock }),
    tenants: tenantStorage,
    usage,
    usageReports,
    answered,
    cursors,
    clock,
    brand,
  };

  // The feed first, so that what the others load is followed from then on.
  await feed.start();
  await tenants.start(PROCESS_CALLER.circumstances);
  await keyring.start(PROCESS_CALLER.circumstances);
  await revocations.start();

  const scope = (tenantId: string): TenantScope => {
    const keys = new KeyManager(managerDeps, tenantId);
    return { keys, rotation: new KeyRotation(managerDeps, keys, tenantId) };
  };
  const standard = scope(DEFAULT_TENANT);
  return {
    keys: standard.keys,
    rotation: standard.rotation,
    tokens,
    tenants,
    events: new EventReader({ log: events, cursors }),
    generator: new APIKeyGenerator({ brand, signer: tokens }),
    issuer,
    audience,
    tenant: scope,
    verify: (request) => validator.verify(request),
    authenticate: (request, authenticateOptions) => authenticator.authenticate(request, authenticateOptions),
    reportExposed: (key, by) => exposed.report(key, by),
    bootstrap: async (store) => {
      // The log is asked and not the table: whoever could empty the table would get a root key for it.
      const created = { tenantId: SYSTEM_TENANT, type: 'key.created', subjectType: null, subjectId: null } as const;
      const [first] = await events.list({ ...created, after: null, order: 'oldest_first', limit: 1 });
      return first === undefined ? bootstrap(scope(SYSTEM_TENANT).keys, store, brand) : null;
    },
    outcomes: () => recorder.totals(),
    ping: () => feed.confirm(clock.monotonicMs()),
    close: async () => {
      await recorder.close();
      await limiter.close();
      await database.close();
    },
  };
}

/**
 * The string is written before the key exists. A start that is cut off in between finds it there and goes on with it, so
 * there is never an administrator whose key nobody has.
 */
async function bootstrap(keys: KeyManager, store: RootKeyStore, brand: string): Promise<APIKey | null> {
  try {
    return await keys.createRoot(rootKey(store, brand));
  } catch (error) {
    // Another process starts at the same moment, took the same string, and was first.
    if (error instanceof PantheonError && error.code === 'conflict') return null;
    throw error;
  }
}

function rootKey(store: RootKeyStore, brand: string): GeneratedKey {
  const written = writtenKey(store, brand);
  if (written !== null) return written;
  const generated = generateKey({ brand, environment: 'live' });
  try {
    store.write(generated.key);
    return generated;
  } catch (error) {
    const first = writtenKey(store, brand);
    if (first === null) throw error;
    return first;
  }
}

function writtenKey(store: RootKeyStore, brand: string): GeneratedKey | null {
  const written = store.read();
  return written === null ? null : generatedFrom(written.trim(), brand);
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new PantheonError('store_unusable', {
      field: 'DATA_DIR',
      detail: `The folder ${path} cannot be made.`,
      cause,
    });
  }
}

function parseIssuer(text: string): string {
  if (URL.canParse(text) && !text.endsWith('/') && /^https?:$/.test(new URL(text).protocol)) return text;
  throw new PantheonError('invalid_setting', {
    field: 'PUBLIC_URL',
    detail: 'An absolute http(s) URL without a slash at its end.',
  });
}

const SILENT: Logger = { warn: () => {}, error: () => {} };
