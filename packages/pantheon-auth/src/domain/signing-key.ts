/** The key pairs that sign our tokens: what one is, and how its events change it. */
import type { Instant } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { invariant } from '../foundation/errors.ts';
import type { AsymmetricAlgorithm } from './claims.ts';
import type { AuditEvent } from './event.ts';

export interface SigningKeyRecord {
  /** RFC 7638 thumbprint of the public key: unique across all time. */
  readonly kid: string;
  readonly algorithm: AsymmetricAlgorithm;
  readonly publicJwk: JsonObject;
  readonly createdAt: Instant;
  /** From then on nothing it signed is accepted (I7). */
  readonly retiredAt: Instant | null;
  readonly revision: number;
}

/** The only way a signing key changes. */
export function evolveSigningKey(record: SigningKeyRecord | null, event: AuditEvent): SigningKeyRecord {
  if (event.type === 'signing_key.created') {
    invariant(record === null && event.after !== null, 'a signing key is created once, with its public key');
    return {
      kid: event.subject.id,
      algorithm: event.after['algorithm'] as AsymmetricAlgorithm,
      publicJwk: event.after['publicJwk'] as JsonObject,
      createdAt: event.at,
      retiredAt: null,
      revision: 1,
    };
  }
  invariant(record !== null && event.type === 'signing_key.retired', 'a signing key is created, then retired');
  return { ...record, retiredAt: record.retiredAt ?? event.at, revision: record.revision + 1 };
}
