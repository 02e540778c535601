/** Reads the next secret of a key that the service rotated, for the holder of the version before it. */
import type { CommandReads } from '../commands/command-reads.ts';
import { assertCaller } from '../domain/caller.ts';
import type { Caller } from '../domain/key-policy.ts';
import { previousVersion } from '../domain/key-versions.ts';
import { readerOf } from '../domain/reader.ts';
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
}

/** @throws PantheonError `not_found` when none is stored for the holder of this version, `not_allowed`. */
export async function nextSecretOf(by: Caller, deps: NextSecretReaderDeps): Promise<NextSecretForHolder> {
  assertCaller(by);
  const { authority } = by;
  if (authority.kind !== 'key' || authority.via !== 'api_key')
    throw new PantheonError('not_allowed', { detail: 'Only an API key can make this call.' });
  const { changes, nextSecrets, commandReads, usage } = deps;
  const { keyId, tenantId, version } = authority;
  return commandReads.run('ordinary', readerOf(by, tenantId), async () => {
    const { record } = await changes.find(tenantId, keyId);
    const next = await nextSecrets.find(tenantId, keyId);
    const previous = previousVersion(record);
    const belongsToCaller = next !== null && next.version === record.version && previous?.version === version;
    const isUsed = async (): Promise<boolean> =>
      (await usage.ofKey(tenantId, keyId)).some((use) => use.version === record.version && use.usageCount > 0);
    if (!belongsToCaller || (await isUsed())) throw new PantheonError('not_found');
    return { ...next, acceptedUntil: new Date(previous?.acceptedUntil ?? 0) };
  });
}
