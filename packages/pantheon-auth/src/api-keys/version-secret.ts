/** What is kept of a new secret: its hash, and what HS256 needs. The secret itself goes to the holder and nowhere else. */

import type { VersionSecret } from '../verification/stored-key.ts';
import { deriveKid, deriveSigningSecret } from './key-derivation.ts';
import type { GeneratedKey } from './key-generator.ts';

/** The storage keeps the signing part only where the key's policy asks for HS256. */
export function versionSecret(version: number, generated: GeneratedKey): VersionSecret {
  const { id, keyHash, secret } = generated;
  return { version, keyHash, signing: { kid: deriveKid(secret, id), secret: deriveSigningSecret(secret, id) } };
}
