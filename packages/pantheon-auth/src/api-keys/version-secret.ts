/**
 * What is stored of a new secret: its hash, and the derived HS256 secret. The secret itself is returned to the holder
 * only.
 */

import type { VersionSecret } from '../verification/stored-key.ts';
import { deriveKid, deriveSigningSecret } from './key-derivation.ts';
import type { GeneratedKey } from './key-generator.ts';

/** The HS256 secret is stored only if the key's policy uses HS256. */
export function versionSecret(version: number, generated: GeneratedKey): VersionSecret {
  const { id, keyHash, secret } = generated;
  return { version, keyHash, signing: { kid: deriveKid(secret, id), secret: deriveSigningSecret(secret, id) } };
}
