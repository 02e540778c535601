/** The leaf hash of an event in the Merkle tree of the log (RFC 9162 section 2.1). It must never change. */
import { createHash } from 'node:crypto';

export const LEAF_RANDOM_BYTES = 32;
const LEAF_PREFIX = Uint8Array.of(0x00);

/**
 * SHA-256(0x00 ‖ random ‖ event). The random bytes are stored with the event, so that the leaf hashes in a public proof
 * confirm no guess about other events. The position in the log is not hashed, because it is the index of the leaf.
 */
export function leafHash(random: Uint8Array, canonicalEvent: string): Buffer {
  return createHash('sha256').update(LEAF_PREFIX).update(random).update(canonicalEvent, 'utf8').digest();
}
