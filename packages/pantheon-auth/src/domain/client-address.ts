/**
 * Determines the client address behind proxies: the peer of the socket, or what trusted proxies report in
 * `X-Forwarded-For`. Every address is normalised before it is compared.
 */
import { AddressRanges, normalAddress, parseAddressRange } from './address.ts';

/** Proxies whose `X-Forwarded-For` is trusted. */
export class TrustedProxies {
  /** Null: none, and the header is ignored. */
  readonly #ranges: AddressRanges | null;

  /**
   * Takes addresses and CIDR ranges. Throws a `TypeError` for anything else, and for a range of all addresses, since
   * every client could then choose its address.
   */
  constructor(ranges: readonly string[]) {
    for (const text of ranges) {
      const range = parseAddressRange(text);
      if (!range.ok || range.cidr.endsWith('/0')) throw new TypeError('A proxy is an IP address or a CIDR range.');
    }
    this.#ranges = ranges.length === 0 ? null : AddressRanges.of(ranges);
  }

  /**
   * Goes back from the socket through the addresses that the proxies wrote, as long as each is a trusted proxy. The
   * first that is not is the client; earlier entries were sent by the client itself and are ignored. If an entry is no
   * address, the client is not known: null, which no allowlist contains. Using the proxy's address instead would allow
   * any client wherever the proxy is allowed.
   *
   * @param peer the peer address of the socket.
   * @param forwardedFor returns all `X-Forwarded-For` headers in order.
   */
  clientAddress(peer: string | null | undefined, forwardedFor: () => readonly string[]): string | null {
    let client = normalAddress(peer ?? '');
    if (this.#ranges === null) return client;
    const headers = forwardedFor();
    const hops = headers.length === 0 ? [] : headers.join(',').split(',');
    for (let at = hops.length - 1; at >= 0 && client !== null && this.#ranges.contains(client); at -= 1)
      client = normalAddress(hops[at]?.trim() ?? '');
    return client;
  }
}
