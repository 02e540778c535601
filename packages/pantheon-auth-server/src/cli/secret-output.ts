/** The file for a new secret that `--out` names. */
import { hasCode, PantheonError, SecretFile } from 'pantheon-auth';

/**
 * @throws PantheonError `invalid_request` when it exists or cannot be created, before a secret is created that could be
 * lost.
 */
export async function claimSecretFile(path: string): Promise<SecretFile> {
  try {
    return await SecretFile.claim(path);
  } catch (cause) {
    const exists = hasCode(cause, 'EEXIST');
    const why = exists ? 'exists already and is not replaced' : 'cannot be created';
    throw new PantheonError('invalid_request', { field: 'out', detail: `The file ${path} ${why}`, cause });
  }
}
