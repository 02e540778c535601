/** Builds the parts that change and read keys and tenants. */
import { Administrators } from '../api-keys/administrators.ts';
import { ExposedKeys } from '../api-keys/exposed-keys.ts';
import { KeyActs } from '../api-keys/key-acts.ts';
import { KeyDescendants } from '../api-keys/key-descendants.ts';
import type { KeyManagerDeps } from '../api-keys/key-manager.ts';
import { SELF_ROTATIONS_PER_HOUR_DEFAULT, SelfRotations } from '../api-keys/self-rotations.ts';
import { UsageReader } from '../api-keys/usage-reader.ts';
import { CallerReads } from '../commands/caller-reads.ts';
import { IdempotencyService } from '../commands/idempotency-service.ts';
import { Propagation } from '../commands/propagation.ts';
import { type AuditLog, AuditLogReader } from '../events/audit-log.ts';
import { ReadTurns } from '../foundation/read-turns.ts';
import { OfflineTokens } from '../jwt/offline-tokens.ts';
import { ownAudiences } from '../jwt/token-issuer.ts';
import { SealedCursors } from '../kms/sealed-cursor.ts';
import { TenantManager } from '../tenants/tenant-manager.ts';
import { TenantStorage } from '../tenants/tenant-storage.ts';
import { UsageQueryService } from '../usage/usage-query.ts';
import type { AccessState } from './access-state.ts';
import type { Foundations } from './foundations.ts';
import type { Verifying } from './verifying.ts';

export interface Managing {
  readonly tenants: TenantManager;
  readonly auditLog: AuditLog;
  readonly exposed: ExposedKeys;
  readonly propagation: Propagation;
  /** Dependencies of the key managers, of which there is one per tenant. */
  readonly managerDeps: KeyManagerDeps;
}

export function makeManaging(base: Foundations, state: AccessState, verifying: Verifying): Managing {
  const { database, limiter, clock, keyPrefix, issuer, audience, logger, options } = base;
  const { sealer, events, keyStorage, nextSecrets, cache, knownTenants: known, idTags, stalenessMaxMs } = state;
  const { validator, guard, changes, commandReads, recorder } = verifying;
  const { ledger } = database;

  const cursors = new SealedCursors(sealer);
  const readTurns = new ReadTurns({ atOnceMax: database.readsAtOnce.shown, clock });
  const shownReads = new CallerReads({ turns: readTurns, guard });
  const exposed = new ExposedKeys({
    validator,
    ledger,
    events,
    clock,
    onError: (error) =>
      logger.error({ err: error }, 'a text contained a key, and the event for it could not be written'),
  });
  const tenantStorage = new TenantStorage({ rows: database.tenants, ledger, events });
  const turns = { shownReads, commandReads };
  const storage = tenantStorage;
  const tenants = new TenantManager({ exposed, storage, known, cache, guard, ...turns, cursors, clock });
  const propagation = new Propagation({ stalenessMaxMs, clock, tokens: new OfflineTokens({ events, readTurns }) });
  const managerDeps: KeyManagerDeps = {
    exposed,
    storage: keyStorage,
    changes,
    administrators: new Administrators({ storage: keyStorage, clock }),
    descendants: new KeyDescendants({ rows: database.keys, readTurns }),
    acts: new KeyActs({ events, readTurns }),
    tenants: tenantStorage,
    usage: new UsageReader({ rows: database.usage, recorder, reads: commandReads }),
    usageReports: new UsageQueryService({ rows: database.usage, clock }),
    idempotency: new IdempotencyService({ rows: database.idempotency, reads: commandReads, clock }),
    idTags,
    nextSecrets,
    selfRotations: new SelfRotations({
      limiter,
      perHourMax: options.selfRotationsPerHour ?? SELF_ROTATIONS_PER_HOUR_DEFAULT,
    }),
    propagation,
    cursors,
    ...turns,
    clock,
    keyPrefix,
    audiences: ownAudiences({ issuer, audience }),
  };
  return {
    tenants,
    auditLog: new AuditLogReader({ log: events, cursors, shownReads }),
    exposed,
    propagation,
    managerDeps,
  };
}
