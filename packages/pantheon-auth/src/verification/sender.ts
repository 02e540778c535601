/**
 * The sender of a presented credential, for counting failures and for fair queues. An address reported by a caller of
 * the management API is not trusted, so it counts only together with that caller.
 */
import { clientBucket } from '../domain/address.ts';

export interface Sender {
  /** The client address; null: an in-process call without one. */
  readonly address: string | null;
  /**
   * The id of the calling key, if it asks about a credential that somebody else presented. Null: the sender itself
   * presented it.
   */
  readonly askedBy: string | null;
}

/** The identity of a sender in queues and counters. */
export interface SenderShare {
  /**
   * Senders with the same owner share one fair share of a queue: an address (IPv6 by /64), or all addresses that one
   * caller reports.
   */
  readonly owner: string;
  /** The account for which failures are counted. Null: none, for an in-process call without address. */
  readonly account: string | null;
}

export function shareOf({ address, askedBy }: Sender): SenderShare {
  const bucket = address === null ? null : clientBucket(address);
  if (askedBy !== null) return { owner: `key ${askedBy}`, account: `key ${askedBy} ${bucket ?? ''}` };
  return { owner: bucket ?? 'process', account: bucket };
}

/** The sender of a request. The address is normalised; all invalid addresses are one sender. */
export function senderOf(
  request: { readonly ip?: string | null; readonly askedBy?: string },
  address: string | null,
): Sender {
  return { address: address ?? request.ip ?? null, askedBy: request.askedBy ?? null };
}
