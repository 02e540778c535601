/**
 * Repeats a creation or rotation under its `Idempotency-Key`. The secret of the first answer is not stored (I1), so the
 * repeated request replaces it, unless it has been used; then the request is refused.
 */
import type { CommandReads } from '../commands/command-reads.ts';
import type { AnsweredRequest } from '../commands/idempotency-rows.ts';
import type { RequestIdentity } from '../commands/idempotency-service.ts';
import type { AppTypes } from '../domain/app-types.ts';
import { assertMayHandOut, type ConfirmedCaller } from '../domain/delegation.ts';
import { type KeyRecord, replaceSecret } from '../domain/key.ts';
import { assertMay, assertProvesCurrent, type Caller } from '../domain/key-policy.ts';
import { previousVersion } from '../domain/key-versions.ts';
import { readerOf } from '../domain/reader.ts';
import { assertTenantActive } from '../domain/tenant.ts';
import type { Clock } from '../foundation/clock.ts';
import { invariant, PantheonError } from '../foundation/errors.ts';
import { tenantAsRead } from '../tenants/tenant-storage.ts';
import type { StoredUsage } from '../usage/usage-rows.ts';
import { type APIKey, toApiKey } from './api-key.ts';
import type { KeyChanges } from './key-changes.ts';
import { generateKey } from './key-generator.ts';
import type { UsageReader } from './usage-reader.ts';
import { versionSecret } from './version-secret.ts';

interface LostSecretDeps {
  readonly changes: KeyChanges;
  readonly commandReads: CommandReads;
  readonly usage: UsageReader;
  readonly clock: Clock;
  readonly keyPrefix: string;
}

/** A repeated request, and what the first one created. */
interface Repeated {
  readonly request: RequestIdentity;
  readonly answered: AnsweredRequest;
  readonly by: Caller;
}

/** @throws PantheonError `already_claimed`, and what creating or rotating the key does. */
export async function replaceLostSecret<App extends AppTypes = AppTypes>(
  { request, answered, by }: Repeated,
  { changes, commandReads, usage, clock, keyPrefix }: LostSecretDeps,
): Promise<{ readonly key: string; readonly apiKey: APIKey<App>; readonly record: KeyRecord }> {
  const { keyId, version, tenantId } = answered;
  const { change } = await changes.run({
    by,
    // The required permission depends on whether the key is the caller's own.
    action: null,
    tenantId,
    keyId,
    load: () =>
      commandReads.run('ordinary', readerOf(by, tenantId), async () => {
        const stored = await changes.find(tenantId, keyId);
        return { ...stored, used: await usage.ofKey(tenantId, keyId) };
      }),
    decide: ({ record, secrets, tenant, used }, caller) => {
      assertSameRequest(request, caller, record);
      assertUnclaimed(answered, record, used);
      assertTenantActive(tenant);
      const generated = generateKey({ keyPrefix, environment: record.environment, id: keyId });
      const others = secrets.filter((secret) => secret.version !== version);
      return {
        change: replaceSecret(record, by.auditContext, clock.now()),
        secrets: [versionSecret(version, generated), ...others],
        preconditions: [tenantAsRead(tenant)],
        key: generated.key,
      };
    },
  });
  invariant(change !== null, 'a replaced secret is always a change');
  const { record } = change.change;
  return { key: change.key, apiKey: toApiKey(record, [], { keyPrefix, now: clock.now() }), record };
}

function assertUnclaimed({ version }: AnsweredRequest, record: KeyRecord, used: readonly StoredUsage[]): void {
  if (record.version !== version || record.state.kind !== 'active') throw new PantheonError('already_claimed');
  if (used.some((one) => one.version === version && one.usageCount > 0)) throw new PantheonError('already_claimed');
}

/**
 * The idempotency record is not sufficient by itself. The key must be one that this request can have created or
 * changed, and the caller must be allowed to grant what the key has now, unless it is the caller's own key.
 */
function assertSameRequest({ keyId }: RequestIdentity, by: ConfirmedCaller, record: KeyRecord): void {
  const { authority } = by;
  const callerId = authority.kind === 'key' ? authority.keyId : null;
  const isIts = keyId === null ? record.createdBy === callerId : record.id === keyId;
  if (!isIts) throw new PantheonError('already_claimed');
  if (record.id === callerId) {
    // A key that rotated itself and lost the answer still has the previous version. The string of an even older
    // version, or a token, is not accepted.
    assertProvesCurrent(by, { id: record.id, version: previousVersion(record)?.version ?? 0 });
    return;
  }
  assertMay(by, keyId === null ? 'keys.create' : 'keys.rotate', record.tenantId);
  assertMayHandOut(by, record);
}
