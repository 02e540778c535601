/** Rolls a key back to the version before the current one, while that version is still accepted. */
import { assertIsMeant, type ConditionalOptions } from '../commands/conditional-change.ts';
import { assertFlag, parseReason } from '../commands/input.ts';
import type { Settled, SettleOptions } from '../commands/propagation.ts';
import type { AppTypes } from '../domain/app-types.ts';
import { type ChangeOptions, callerIn } from '../domain/caller.ts';
import { rollBackKey } from '../domain/key.ts';
import { assertMay } from '../domain/key-policy.ts';
import { readerOf } from '../domain/reader.ts';
import { assertTenantActive } from '../domain/tenant.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { tenantAsRead } from '../tenants/tenant-storage.ts';
import { type APIKey, toApiKey } from './api-key.ts';
import type { KeyManager, KeyManagerDeps } from './key-manager.ts';
import { assertMayRotate } from './may-rotate.ts';

export interface RollBackOptions extends ChangeOptions, SettleOptions, ConditionalOptions {
  readonly reason?: string;
  /** Also if the current version has been used. Needs the permission `pantheon:keys:force`. */
  readonly force?: boolean;
}

interface RollBackCommand {
  readonly id: string;
  readonly tenantId: string;
  readonly options: RollBackOptions;
}

/** @throws PantheonError as `KeyRotation.rollBack`. */
export async function rollBack<App extends AppTypes>(
  { keyPrefix, clock, changes, usage, exposed, propagation }: KeyManagerDeps,
  keys: KeyManager<App>,
  { id, tenantId, options }: RollBackCommand,
): Promise<APIKey<App> & Settled> {
  const by = callerIn(options);
  const { force = false } = options;
  assertFlag('force', force);
  assertMay(by, 'keys.rotate', tenantId);
  await exposed.refuseIn({ reason: options.reason }, by);
  const auditContext = { ...by.auditContext, reason: parseReason(options.reason) };
  const about = { tenantId, keyId: id, reader: readerOf(by, tenantId), lane: 'ordinary' } as const;
  return propagation.settled(tenantId, options, async () => {
    const { loaded, change } = await changes.run({
      by,
      action: 'keys.rotate',
      tenantId,
      keyId: id,
      load: async () => ({ key: await keys.load(id, by), used: await usage.versionsBefore(about) }),
      decide: ({ key: { record, secrets, tenant }, used }, caller) => {
        assertMayRotate(caller, record);
        if (force) assertMay(caller, 'keys.force', tenantId);
        assertIsMeant(options, 'key', record);
        assertTenantActive(tenant);
        const rolledBack = rollBackKey(record, auditContext, clock.now());
        const isUsed = used.some((use) => use.version === record.version && use.usageCount > 0);
        if (isUsed && !force) throw new PantheonError('version_in_use');
        return { change: rolledBack, secrets, preconditions: [tenantAsRead(tenant)] };
      },
      // Without retries: after another rotation a new attempt would roll back that one.
      attemptsMax: 1,
      // After a conflict the record no longer matches `ifMatch`, which is the more precise error.
      explainConflict: async () => assertIsMeant(options, 'key', (await keys.load(id, by)).record),
    });
    invariant(change !== null, 'a rollback is always a change');
    const { record } = change.change;
    return { answer: toApiKey<App>(record, loaded.used, { keyPrefix, now: clock.now() }), record };
  });
}
