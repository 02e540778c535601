/** The record of a signing key, and how events change it. */
import type { Instant } from '../foundation/clock.ts';
import type { Json, JsonObject } from '../foundation/encoding.ts';
import { assertNever, invariant } from '../foundation/errors.ts';
import type { AsymmetricAlgorithm } from './claims.ts';
import type { EventAbout } from './event.ts';
import { canBeRaised, type StoredRevision } from './revision.ts';

export interface SigningKeyRecord {
  /** RFC 7638 thumbprint of the public key, which is unique. */
  readonly kid: string;
  readonly algorithm: AsymmetricAlgorithm;
  readonly publicJwk: JsonObject;
  readonly createdAt: Instant;
  /** From when on it signs, until one with a later `signsFrom` replaces it. Null: a standby key. */
  readonly signsFrom: Instant | null;
  /** From then on nothing it signed is accepted (I7). */
  readonly retiredAt: Instant | null;
  readonly revision: number;
}

/** Applies an event to a signing key. */
export function evolveSigningKey(record: SigningKeyRecord | null, event: EventAbout<'signing_key'>): SigningKeyRecord {
  switch (event.type) {
    case 'signing_key.created':
      invariant(record === null && event.after !== null, 'a signing key is created once, with its public key');
      return {
        kid: event.subject.id,
        algorithm: event.after.algorithm as AsymmetricAlgorithm,
        publicJwk: event.after.publicJwk as JsonObject,
        createdAt: event.at,
        signsFrom: event.after.signsFrom === undefined ? event.at : instantOf(event.after.signsFrom),
        retiredAt: null,
        revision: 1,
      };
    case 'signing_key.activated':
      invariant(record !== null && event.after !== null, 'a signing key is created, then activated');
      return { ...record, signsFrom: instantOf(event.after.signsFrom), revision: record.revision + 1 };
    case 'signing_key.retired':
      invariant(record !== null, 'a signing key is created, then retired');
      return retiredSigningKey(record, event.at);
    case 'unknown':
      throw new Error(`Not an event of a signing key: ${event.saidType}`);
    default:
      return assertNever(event);
  }
}

/**
 * The same signing key, retired. Also for a damaged one, of which not all is known. A damaged revision is replaced by the
 * time in milliseconds: the row never had it before, because a revision otherwise counts changes.
 */
export function retiredSigningKey<
  Known extends Pick<SigningKeyRecord, 'retiredAt'> & { readonly revision: StoredRevision },
>(record: Known, at: Instant): Known & { readonly revision: number } {
  const revision = canBeRaised(record.revision) ? record.revision + 1 : at;
  return { ...record, retiredAt: record.retiredAt ?? at, revision };
}

function instantOf(time: Json | undefined): Instant | null {
  return typeof time === 'string' ? Date.parse(time) : null;
}
