/**
 * `createPantheonAuth`: the only file that picks implementations. Everything else receives what it needs. Starts in the
 * order in which things depend on each other, and stops in the reverse, losing no usage.
 */
import { Administrators } from './api-keys/administrators.ts';
import type { APIKey } from './api-keys/api-key.ts';
import { KeyCallerGuard } from './api-keys/caller-guard.ts';
import { type RepairedDates, repairClock as repairDates } from './api-keys/clock-repair.ts';
import { ExposedKeys } from './api-keys/exposed-keys.ts';
import { IdTagManager } from './api-keys/id-tag-manager.ts';
import { IdTags } from './api-keys/id-tags.ts';
import { KeyActs } from './api-keys/key-acts.ts';
import { KeyChanges } from './api-keys/key-changes.ts';
import { KeyDescendants } from './api-keys/key-descendants.ts';
import { APIKeyGenerator, DEFAULT_KEY_PREFIX, parseKeyPrefix } from './api-keys/key-generator.ts';
import { KeyLookup, parseStaleness, STALENESS_MAX_MS_DEFAULT } from './api-keys/key-lookup.ts';
import { KeyManager, type KeyManagerDeps } from './api-keys/key-manager.ts';
import { KeyRotation } from './api-keys/key-rotation.ts';
import { KeyStorage } from './api-keys/key-storage.ts';
import { KeyValidator, type Verification } from './api-keys/key-validator.ts';
import { makeRoot, type RootKeyStore, recoverRoot } from './api-keys/root-key.ts';
import { SELF_ROTATIONS_PER_HOUR_DEFAULT, SelfRotations } from './api-keys/self-rotations.ts';
import { UsageReader } from './api-keys/usage-reader.ts';
import { VerificationCache } from './api-keys/verification-cache.ts';
import type { VerifyRequest } from './api-keys/verify-request.ts';
import { clockLog, tellAhead } from './clock-log.ts';
import { confirmCaller, PROCESS_CALLER } from './commands/caller.ts';
import { IdempotencyService } from './commands/idempotency-service.ts';
import { Propagation } from './commands/propagation.ts';
import type { AuditContext } from './domain/event.ts';
import type { Action, Caller } from './domain/key-policy.ts';
import { DEFAULT_TENANT, SYSTEM_TENANT } from './domain/tenant.ts';
import { type AuditLog, AuditLogReader } from './events/audit-log.ts';
import { EventCodec } from './events/event-codec.ts';
import { EventFeed } from './events/event-feed.ts';
import { AcceptedTimeFollower, type ClockReading, isBehind, startClock } from './events/stored-time.ts';
import { NonDecreasingClock, systemClock } from './foundation/clock.ts';
import { PantheonError } from './foundation/errors.ts';
import { cacheBounds } from './foundation/memory-size.ts';
import { ReadTurns } from './foundation/read-turns.ts';
import type { JobStatus } from './jobs/job.ts';
import { OfflineTokens } from './jwt/offline-tokens.ts';
import { TokenRevocations } from './jwt/revocation.ts';
import { SigningKeyManager } from './jwt/signing-key-manager.ts';
import { SigningKeyring } from './jwt/signing-keyring.ts';
import { ownAudiences, TokenIssuer } from './jwt/token-issuer.ts';
import { TokenValidity } from './jwt/token-validity.ts';
import { TokenVerifier } from './jwt/token-verifier.ts';
import { JwtHandler } from './jwt-handler.ts';
import { Envelope } from './kms/envelope.ts';
import type { KeyEncryption } from './kms/key-encryption.ts';
import { openLocalKms } from './kms/open-local-kms.ts';
import { SealedCursors } from './kms/sealed-cursor.ts';
import { LogConsumers } from './log-consumers/log-consumers.ts';
import { type AuthenticateOptions, type Authentication, Authenticator, type AuthRequest } from './middleware.ts';
import { databaseFileOf, openDatabase } from './open-database.ts';
import { openJobs } from './open-jobs.ts';
import { openLimiter } from './open-limiter.ts';
import { assertOptions, type Logger, type PantheonAuthOptions, parseIssuer } from './options.ts';
import type { LimiterStatus, RateLimiter } from './rate-limit/rate-limiter.ts';
import { SenderBuckets } from './rate-limit/sender-buckets.ts';
import type { Database } from './storage/database.ts';
import { TenantManager } from './tenants/tenant-manager.ts';
import { TenantStorage } from './tenants/tenant-storage.ts';
import { UsageQueryService } from './usage/usage-query.ts';
import { UsageRecorder } from './usage/usage-recorder.ts';

/** What can be done within one tenant. */
export interface TenantScope {
  readonly keys: KeyManager;
  readonly rotation: KeyRotation;
}

export interface PantheonAuth {
  /** Keys of the tenant `default`. */
  readonly keys: KeyManager;
  readonly rotation: KeyRotation;
  readonly tokens: JwtHandler;
  readonly tenants: TenantManager;
  readonly events: AuditLog;
  /** The secrets that tag the ids of new keys. */
  readonly idTags: IdTagManager;
  /** The brief's generator, able to sign. */
  readonly generator: APIKeyGenerator;
  readonly issuer: string;
  readonly audience: readonly string[];
  tenant(id: string): TenantScope;
  /** Whether a key may act now. */
  verify(request: VerifyRequest): Promise<Verification>;
  /** Finds the credential of a request, verifies it and shapes the refusal. */
  authenticate(request: AuthRequest, options?: AuthenticateOptions): Promise<Authentication>;
  /**
   * Looks again at a caller whose credential was verified a while ago, and asks for the permission of an action. Changes do
   * so by themselves: this is for what was answered on the strength of `authenticate` and took its time.
   *
   * @throws PantheonError the code of the denial when the caller may no longer act, `insufficient_permissions`, 503 codes.
   */
  confirm(caller: Caller, demand: { readonly action: Action; readonly tenantId: string } | null): Promise<void>;
  /** Logs `key.exposed_in_url` if the text is the string of a key: it was sent where it is written down. */
  reportExposed(key: string, by: AuditContext): Promise<void>;
  /**
   * Makes the first administrator's key if there never was one; of several at once, on any nodes, one makes it. Null:
   * there was one. With `recover` it makes another one all the same, and the log says so.
   */
  bootstrap(store: RootKeyStore, options?: { readonly recover?: boolean }): Promise<APIKey | null>;
  /** Counts of outcomes since the start, for metrics. */
  outcomes(): ReadonlyMap<string, number>;
  /**
   * For metrics and alarms: how many senders (addresses, IPv6 by /64) keep presenting what proves nothing. It is counted
   * only: none of them is refused for it.
   */
  failingSenders(): number;
  /** For metrics and alarms: whether limits are counted as they should be. */
  limiterStatus(): LimiterStatus;
  /** For metrics and alarms: what each job in the background did on this node, and whether it runs here. */
  jobs(): readonly JobStatus[];
  /** Asks the store for the head of its log, and catches up with it. @throws PantheonError `store_unavailable`. */
  ping(): Promise<void>;
  /** Stores what was counted, gives back what was reserved, closes the database. */
  close(): Promise<void>;
}

/**
 * Opens the database, or makes it in `dataDir`, and starts everything on it.
 *
 * @throws PantheonError `master_key_missing`, `master_key_mismatch`, `store_unusable`, `store_unavailable`,
 * `clock_in_doubt`, `database_missing`, `schema_too_new`, `schema_too_old`, `redis_required`, `invalid_setting`.
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
  return (await openEngine(options)).auth;
}

/** An instance, with what is not for those who use it: what only `accept-clock.ts` does, and who follows the log. */
export interface Engine {
  readonly auth: PantheonAuth;
  /** For parts of this product. Others read `auth.events`. */
  readonly consumers: LogConsumers;
  /** What the clocks said at the start. */
  readonly reading: ClockReading;
  repairClock(by: AuditContext): Promise<RepairedDates>;
}

/** `mayBeBehind`: also with a clock that is behind the store's records, since it is about to be accepted. */
export async function openEngine(options: PantheonAuthOptions, mayBeBehind = false): Promise<Engine> {
  assertOptions(options);
  const logger = options.logger ?? SILENT;
  const clock = new NonDecreasingClock(options.clock ?? systemClock, clockLog(logger));
  const keyPrefix = parseKeyPrefix(options.keyPrefix ?? DEFAULT_KEY_PREFIX);
  const issuer = parseIssuer(options.issuer);
  const audience = options.audience?.length ? options.audience : [issuer];

  const database = await openDatabase(options, clock, logger);
  try {
    const { time, log } = database;
    const start = { clock, time, head: () => log.head(), onAhead: tellAhead(logger) };
    const reading = await startClock(start, mayBeBehind);
    const isNew = (await log.head()).seq === 0;
    const dataDir = options.dataDir ?? null;
    const databaseFile = options.dataDir === undefined ? null : databaseFileOf(options);
    const kms = await openLocalKms(database.meta, { ...options, dataDir, databaseFile, isNew, logger });
    const { countersBytesMax } = cacheBounds(options.cacheBytesMax);
    const limiter = await openLimiter(database, options.limits, { clock, logger, countersBytesMax });
    try {
      const parts = { database, kms, limiter, clock, reading, keyPrefix, issuer, audience, logger, bounds: options };
      return await assemble(parts);
    } catch (error) {
      await limiter.close();
      throw error;
    }
  } catch (error) {
    await database.close();
    throw error;
  }
}

interface Parts {
  readonly database: Database;
  readonly kms: KeyEncryption;
  readonly limiter: RateLimiter;
  readonly clock: NonDecreasingClock;
  readonly reading: ClockReading;
  readonly keyPrefix: string;
  readonly issuer: string;
  readonly audience: readonly string[];
  readonly logger: Logger;
  readonly bounds: Pick<PantheonAuthOptions, 'cacheBytesMax' | 'knownKeysMax' | 'selfRotationsPerHour'>;
}

async function assemble(parts: Parts): Promise<Engine> {
  const { database, limiter, clock, keyPrefix, issuer, audience, logger, bounds } = parts;
  const { ledger } = database;
  const { knownKeysBytesMax, seenTokensBytesMax } = cacheBounds(bounds.cacheBytesMax);
  const settings = { issuer, audience };
  const sealer = new Envelope({ kms: parts.kms, rows: database.dataKeys, clock });
  const events = new EventCodec(database.events, sealer);
  const cursors = new SealedCursors(sealer);

  const keyStorage = new KeyStorage({ rows: database.keys, ledger, events, sealer });
  const tenantStorage = new TenantStorage({ rows: database.tenants, ledger, events });
  const cache = new VerificationCache({
    storage: keyStorage,
    clock,
    coldReadsMax: database.coldReadsMax,
    onDamaged: (error) => logger.error({ err: error }, 'a key cannot be opened; all others go on'),
    knownKeysMax: bounds.knownKeysMax,
    knownKeysBytesMax,
  });
  const keyring = new SigningKeyring({
    rows: database.signingKeys,
    ledger,
    events,
    sealer,
    clock,
    onQuarantine: (error) => logger.error({ err: error }, 'a signing key cannot be opened; the others go on'),
  });
  const revocations = new TokenRevocations({ rows: database.tokenRevocations, ledger, events, clock });

  const watcher = {
    onStalled: (error: unknown) =>
      logger.error({ err: error }, 'the log cannot be followed; what is known is good for a second'),
    onFollowing: () => logger.warn({}, 'the log is followed again'),
  };
  const feed = new EventFeed({ log: database.log, clock, watcher });
  const stalenessMaxMs = parseStaleness(
    await database.meta.insertOnce('stalenessMaxMs', String(STALENESS_MAX_MS_DEFAULT)),
  );
  const idTags = new IdTags({
    rows: database.idTags,
    ledger,
    events,
    sealer,
    clock,
    stalenessMaxMs,
    onQuarantine: (error) =>
      logger.warn({ err: error }, 'a secret that tags ids cannot be opened; ids that it may have tagged are looked up'),
  });
  const { time } = database;
  const acceptedTime = new AcceptedTimeFollower({ time, clock });
  // The time first: what the others then load is judged by it.
  for (const follower of [acceptedTime, cache, keyring, revocations, idTags]) feed.follow(follower);
  const lookup = new KeyLookup({ cache, tags: idTags, feed, clock, stalenessMaxMs });
  const validity = new TokenValidity({ keyring, revocations, audience: ownAudiences(settings) });
  const guard = new KeyCallerGuard({ lookup, tokens: validity, clock });
  const changes = new KeyChanges({ storage: keyStorage, cache, events, guard });

  const recorder = new UsageRecorder({
    rows: database.usage,
    clock,
    onError: (error) => logger.error({ err: error }, 'usage was not stored as it should be; trying again'),
  });
  const usage = new UsageReader(database.usage, recorder);
  const jobs = openJobs(database, { events, clock, logger });
  const failures = new SenderBuckets({ clock });
  const validator = new KeyValidator({ lookup, limiter, failures, usage: recorder, clock, keyPrefix });
  const verifier = new TokenVerifier({ validator, feed, keyring, validity, clock, settings, seenTokensBytesMax });
  const tokenIssuer = new TokenIssuer({ keyring, clock, settings });
  const signingKeys = new SigningKeyManager({ keyring, guard });
  const tokens = new JwtHandler({
    validator,
    issuer: tokenIssuer,
    verifier,
    keyring,
    signingKeys,
    revocations,
    feed,
    guard,
    changes,
    cache,
    clock,
    keyPrefix,
  });
  const exposed = new ExposedKeys({
    validator,
    ledger,
    events,
    clock,
    onError: (error) => logger.error({ err: error }, 'a key stood in a text, and the log could not be told'),
  });
  const authenticator = new Authenticator({ validator, tokens: verifier, keyPrefix });

  const idempotency = new IdempotencyService({ rows: database.idempotency, clock });
  const tenants = new TenantManager({ exposed, storage: tenantStorage, cache, guard, cursors, clock });
  const usageReports = new UsageQueryService({ rows: database.usage, clock });
  const readTurns = new ReadTurns();
  const propagation = new Propagation({ stalenessMaxMs, clock, tokens: new OfflineTokens({ events }) });
  const managerDeps: KeyManagerDeps = {
    exposed,
    storage: keyStorage,
    changes,
    administrators: new Administrators({ storage: keyStorage, clock }),
    descendants: new KeyDescendants({ rows: database.keys }),
    acts: new KeyActs({ events }),
    tenants: tenantStorage,
    usage,
    usageReports,
    idempotency,
    idTags,
    selfRotations: new SelfRotations({
      limiter,
      perHourMax: bounds.selfRotationsPerHour ?? SELF_ROTATIONS_PER_HOUR_DEFAULT,
    }),
    propagation,
    cursors,
    readTurns,
    clock,
    keyPrefix,
    audiences: ownAudiences(settings),
  };

  try {
    // The feed first, so that what the others load is followed from then on.
    await feed.start();
    await acceptedTime.start();
    await tenants.start(PROCESS_CALLER.auditContext);
    await keyring.start(PROCESS_CALLER.auditContext);
    await revocations.start();
    await idTags.start(PROCESS_CALLER.auditContext);
    const now = clock.now();
    const aheadForMs = clock.mayBeAheadForMs;
    await time.record(now, aheadForMs > 0 ? now + aheadForMs : null).catch((error: unknown) => {
      // A node has to start on a full disk: what must be revoked is revoked there.
      if (!(error instanceof PantheonError && error.code === 'store_full')) throw error;
      logger.warn({ err: error }, 'the time is not recorded');
    });
  } catch (error) {
    feed.close();
    throw error;
  }

  const scope = (tenantId: string): TenantScope => {
    const keys = new KeyManager(managerDeps, tenantId);
    return { keys, rotation: new KeyRotation(managerDeps, keys, tenantId) };
  };
  const standard = scope(DEFAULT_TENANT);
  const auth: PantheonAuth = {
    keys: standard.keys,
    rotation: standard.rotation,
    tokens,
    tenants,
    events: new AuditLogReader({ log: events, cursors, readTurns }),
    idTags: new IdTagManager({ tags: idTags, guard }),
    generator: new APIKeyGenerator({ keyPrefix, signer: tokens, newId: () => idTags.newId().id }),
    issuer,
    audience,
    tenant: scope,
    verify: (request) => validator.verify(request),
    authenticate: (request, authenticateOptions) => authenticator.authenticate(request, authenticateOptions),
    confirm: async (by, demand) => {
      await confirmCaller({ ...(demand ?? { action: null, tenantId: SYSTEM_TENANT }), by }, guard);
    },
    reportExposed: (key, by) => exposed.report(key, by),
    bootstrap: async (store, { recover = false } = {}) => {
      const root = { keys: scope(SYSTEM_TENANT).keys, store, idTags, keyPrefix };
      if (recover) return recoverRoot(root);
      // The log is asked and not the table: whoever could empty the table would get a root key for it.
      return (await events.has(SYSTEM_TENANT, 'key.created')) ? null : makeRoot(root);
    },
    outcomes: () => recorder.totals(),
    failingSenders: () => failures.fullCount(),
    limiterStatus: () => limiter.status(),
    jobs: () => jobs.status(),
    ping: () => feed.confirm(clock.monotonicMs()),
    close: async () => {
      propagation.close();
      await Promise.all([recorder.close(), jobs.close()]);
      await limiter.close();
      feed.close();
      await time.record(clock.now()).catch((error: unknown) => logger.warn({ err: error }, 'the time is not recorded'));
      await database.close();
    },
  };
  const { reading } = parts;
  // Else this node is here to accept a time, and does nothing of its own before that.
  if (!isBehind(reading)) jobs.start();
  const repairClock = (by: AuditContext): Promise<RepairedDates> =>
    repairDates(reading, by, { time, changes, signingKeys, ledger, events, clock });
  const consumers = new LogConsumers({ jobs, cursors: database.logCursors, log: database.log, events, clock });
  return { auth, consumers, reading, repairClock };
}

const SILENT: Logger = { warn: () => {}, error: () => {} };
