/** `createPantheonAuth` and the object that it returns. The parts are built in `engine/`. */
import type { APIKey } from './api-keys/api-key.ts';
import { IdTagManager } from './api-keys/id-tag-manager.ts';
import { APIKeyGenerator } from './api-keys/key-generator.ts';
import { KeyManager } from './api-keys/key-manager.ts';
import { KeyRotation } from './api-keys/key-rotation.ts';
import type { Verification } from './api-keys/key-validator.ts';
import { makeRoot, type RootKeyStore, recoverRoot } from './api-keys/root-key.ts';
import type { VerifyRequest } from './api-keys/verify-request.ts';
import { confirmCaller, type Demand, intentOf } from './commands/caller.ts';
import { assertFlag, invalid } from './commands/input.ts';
import type { AppTypes } from './domain/app-types.ts';
import type { AuditContext } from './domain/event.ts';
import type { Caller } from './domain/key-policy.ts';
import { DEFAULT_TENANT, SYSTEM_TENANT } from './domain/tenant.ts';
import { type Engine, openEngine } from './engine/open-engine.ts';
import type { PantheonAuthOptions } from './engine/options.ts';
import type { AuditLog } from './events/audit-log.ts';
import type { JobStatus } from './jobs/job.ts';
import type { JwtHandler } from './jwt-handler.ts';
import type { AuthenticateOptions, Authentication, AuthRequest, NextSecretAnswer } from './middleware.ts';
import type { LimiterStatus } from './rate-limit/rate-limiter.ts';
import type { TenantManager } from './tenants/tenant-manager.ts';

/** Calls within one tenant. */
export interface TenantScope<App extends AppTypes = AppTypes> {
  readonly keys: KeyManager<App>;
  readonly rotation: KeyRotation<App>;
}

export interface PantheonAuth<App extends AppTypes = AppTypes> {
  /** Keys of the tenant `default`. */
  readonly keys: KeyManager<App>;
  readonly rotation: KeyRotation<App>;
  readonly tokens: JwtHandler;
  readonly tenants: TenantManager;
  readonly events: AuditLog;
  /** Manages the secrets that tag the ids of new keys. */
  readonly idTags: IdTagManager;
  /** Generates key strings and signs tokens synchronously. */
  readonly generator: APIKeyGenerator;
  readonly issuer: string;
  readonly audience: readonly string[];
  tenant(id: string): TenantScope<App>;
  /** Whether a key may act now. */
  verify(request: VerifyRequest<App>): Promise<Verification<App>>;
  /** Finds and verifies the credential of a request, and makes the answer if it is refused. */
  authenticate(request: AuthRequest, options?: AuthenticateOptions<App>): Promise<Authentication<App>>;
  /**
   * The next key string of the key in the request, encrypted to its recipient, after the service has rotated the key. Also
   * for a holder whose version is no longer accepted, until the new one is used.
   */
  nextSecret(request: AuthRequest & { readonly userAgent: string | null }): Promise<NextSecretAnswer>;
  /**
   * Checks again a caller that was authenticated earlier, and a permission. Changes do this by themselves; use it for
   * other requests that take long after `authenticate`.
   *
   * `null` requires no permission.
   *
   * @throws PantheonError the code of the denial when the caller may no longer act, `insufficient_permissions`,
   * `invalid_request`, 503 codes.
   */
  confirm(caller: Caller, demand: Demand): Promise<void>;
  /**
   * Records the event `key.exposed_in_url` if the text is a key string of this database. Call it for key strings found
   * in URLs.
   */
  reportExposed(key: string, by: AuditContext): Promise<void>;
  /**
   * Creates the first administrator's key if there never was one; when several nodes call it at the same time, one
   * creates it. Null: there was one. With `recover` it creates another one, which the audit trail records.
   */
  bootstrap(store: RootKeyStore, options?: { readonly recover?: boolean }): Promise<APIKey | null>;
  /** Counts of outcomes since the start, for metrics. */
  outcomes(): ReadonlyMap<string, number>;
  /** For metrics and alarms: uses since the start that no stored count holds, because the database was away for too long. */
  droppedUses(): number;
  /**
   * For metrics and alarms: the number of senders (IPv4 addresses, IPv6 /64 networks) that repeatedly present invalid
   * credentials. They are not blocked.
   */
  failingSenders(): number;
  /** For metrics and alarms: whether the limiter is degraded. */
  limiterStatus(): LimiterStatus;
  /** For metrics and alarms: the status of each background job on this node. */
  jobs(): readonly JobStatus[];
  /** Reads the head of the log and applies new events. @throws PantheonError `store_unavailable`. */
  ping(): Promise<void>;
  /** Stores usage counts, returns reserved quota, and closes the database. */
  close(): Promise<void>;
}

/**
 * Opens the database, or creates it in `dataDir`, and starts an instance on it.
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
 *
 * Permissions, metadata and custom claims can be typed: see {@link AppTypes}.
 */
export async function createPantheonAuth<App extends AppTypes = AppTypes>(
  options: PantheonAuthOptions,
): Promise<PantheonAuth<App>> {
  return pantheonAuthOf(await openEngine(options));
}

/** Makes the public object of an engine. */
export function pantheonAuthOf<App extends AppTypes = AppTypes>(engine: Engine): PantheonAuth<App> {
  const { tokens, idTags, keyPrefix, issuer, audience, clock } = engine;
  const tenant = (id: string): TenantScope<App> => {
    if (typeof id !== 'string') throw invalid('tenantId', 'The id of a tenant.');
    const keys = new KeyManager<App>(engine.managerDeps, id);
    return { keys, rotation: new KeyRotation(engine.managerDeps, keys, id) };
  };
  return {
    ...tenant(DEFAULT_TENANT),
    tokens,
    tenants: engine.tenants,
    events: engine.auditLog,
    idTags: new IdTagManager({ tags: idTags, guard: engine.guard, exposed: engine.exposed }),
    generator: new APIKeyGenerator({ keyPrefix, signer: tokens, newId: () => idTags.newId().id }),
    issuer,
    audience,
    tenant,
    // As for `toApiKey`: what the key holds is what the application says its keys hold.
    verify: (request) => engine.validator.verify(request) as Promise<Verification<App>>,
    authenticate: (request, options) =>
      engine.authenticator.authenticate(request, options) as Promise<Authentication<App>>,
    nextSecret: (request) => engine.authenticator.nextSecret(request, (by) => tenant(tenantOf(by)).rotation.next(by)),
    confirm: async (by, demand) => {
      await confirmCaller(intentOf(by, demand), engine.guard);
    },
    reportExposed: (key, by) => engine.exposed.report(key, by),
    bootstrap: async (store, { recover = false } = {}) => {
      assertFlag('recover', recover);
      const root = { keys: new KeyManager(engine.managerDeps, SYSTEM_TENANT), store, idTags, keyPrefix };
      if (recover) return recoverRoot(root);
      // Checks the log and not the table of keys: otherwise somebody who empties that table would get a new root key.
      return (await engine.events.lastSeq(SYSTEM_TENANT, 'key.created')) !== null ? null : makeRoot(root);
    },
    outcomes: () => engine.recorder.totals(),
    droppedUses: () => engine.recorder.droppedCount,
    failingSenders: () => engine.failures.fullCount(),
    limiterStatus: () => engine.limiter.status(),
    jobs: () => engine.jobs.status(),
    ping: () => engine.feed.confirm(clock.monotonicMs()),
    close: () => engine.close(),
  };
}

function tenantOf({ authority }: Caller): string {
  return authority.kind === 'key' ? authority.tenantId : SYSTEM_TENANT;
}
