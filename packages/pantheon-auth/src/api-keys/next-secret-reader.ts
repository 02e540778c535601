/** Reads the next secret of a key that the service rotated, for the holder of the version before it. */
import type { CommandReads } from '../commands/command-reads.ts';
import { addressesOf } from '../domain/address.ts';
import { assertCaller } from '../domain/caller.ts';
import type { Caller } from '../domain/key-policy.ts';
import { previousVersion } from '../domain/key-versions.ts';
import { readerOf } from '../domain/reader.ts';
import { decide } from '../domain/verification.ts';
import type { Clock } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { KeyChanges } from './key-changes.ts';
import type { NextSecrets } from './next-secrets.ts';
import type { UsageReader } from './usage-reader.ts';

/** What the holder receives: the next secret, and how long its present one is accepted. */
export interface NextSecretForHolder {
  readonly version: number;
  /** The key string, as a compact JWE (RFC 7516) to the recipient of the rotation policy. */
  readonly jwe: string;
  /** Until when the version before it is, or was, accepted. */
  readonly acceptedUntil: Date;
}

interface NextSecretReaderDeps {
  readonly changes: KeyChanges;
  readonly nextSecrets: NextSecrets;
  readonly commandReads: CommandReads;
  readonly usage: UsageReader;
  readonly clock: Clock;
}

/**
 * The caller was authenticated before this waited in turn, so the key is decided on again, as it is read now.
 *
 * @throws PantheonError `not_found` when none is stored for the holder of this version, `not_allowed`; the code of the
 * denial when the key is no longer accepted.
 */
export async function nextSecretOf(by: Caller, deps: NextSecretReaderDeps): Promise<NextSecretForHolder> {
  assertCaller(by);
  const { authority } = by;
  if (authority.kind !== 'key' || authority.via !== 'api_key')
    throw new PantheonError('not_allowed', { detail: 'Only an API key can make this call.' });
  const { changes, nextSecrets, commandReads, usage, clock } = deps;
  const { address } = by.auditContext.actor;
  const { keyId, tenantId, version } = authority;
  return commandReads.run('ordinary', readerOf(by, tenantId), async () => {
    const { record, tenant } = await changes.find(tenantId, keyId);
    const next = await nextSecrets.find(tenantId, keyId);
    const previous = previousVersion(record);
    const uses = await usage.ofKey(tenantId, keyId);
    const isUsed = uses.some((use) => use.version === record.version && use.usageCount > 0);
    if (next?.version !== record.version || previous?.version !== version || isUsed)
      throw new PantheonError('not_found', { detail: 'No next key string is stored for the one that was sent.' });
    const facts = { record, tenant, addresses: addressesOf(record.ipAllowlist) };
    const access = { tenantId: null, environment: null, address, permissions: [] };
    const denial = decide(facts, { ...previous, acceptedUntil: null }, access, clock.now());
    if (denial !== null) throw new PantheonError(denial.code);
    return { ...next, acceptedUntil: new Date(previous.acceptedUntil ?? 0) };
  });
}
