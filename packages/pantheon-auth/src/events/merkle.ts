/** How an event becomes a leaf of the log's Merkle tree (RFC 9162 section 2.1). Fixed from the first event on. */
import { createHash } from 'node:crypto';

export const LEAF_RANDOM_BYTES = 32;
const LEAF_PREFIX = Uint8Array.of(0x00);

/**
 * SHA-256(0x00 ‖ random ‖ event). The random bytes are kept with the event, so that a public proof confirms no guess
 * about the neighbours it names. The place in the log is not hashed: it is the index of the leaf.
 */
export function leafHash(random: Uint8Array, canonicalEvent: string): Buffer {
  return createHash('sha256').update(LEAF_PREFIX).update(random).update(canonicalEvent, 'utf8').digest();
}
