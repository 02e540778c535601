/**
 * Who presented a credential, as far as it is known: to whom failures are charged, and with whom a sender shares its turns
 * in a queue. An address that a caller of the management API names is its caller's word, and stays within its account.
 */
import { clientBucket } from '../domain/address.ts';

export interface Sender {
  /** Where it came from; null: a call in this process that did not say. */
  readonly address: string | null;
  /** Who asked about a credential that somebody else presented: the id of the calling key. Null: nobody stands between. */
  readonly askedBy: string | null;
}

/** How a sender is told from others. */
export interface SenderShare {
  /** All that share one fair share: an address (IPv6 by /64), or all addresses that one caller names. */
  readonly owner: string;
  /** Whom to charge. Null: nobody, for a call in this process without an address. */
  readonly account: string | null;
}

export function shareOf({ address, askedBy }: Sender): SenderShare {
  const bucket = address === null ? null : clientBucket(address);
  if (askedBy !== null) return { owner: `key ${askedBy}`, account: `key ${askedBy} ${bucket ?? ''}` };
  return { owner: bucket ?? 'process', account: bucket };
}

/** Who presented what a request asks about. `address` in its one spelling; what is none is a sender too, one for all. */
export function senderOf(
  request: { readonly ip?: string | null; readonly askedBy?: string },
  address: string | null,
): Sender {
  return { address: address ?? request.ip ?? null, askedBy: request.askedBy ?? null };
}
