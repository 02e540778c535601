/**
 * Where a request comes from when proxies stand before us: who is at the other end of the socket, or what proxies that
 * are trusted say of it in `X-Forwarded-For`. Every hop is brought to its one spelling before anything is decided on it.
 */
import { AddressRanges, normalAddress, parseAddressRange } from './address.ts';

/** Proxies whose `X-Forwarded-For` is believed. */
export class TrustedProxies {
  /** Null: there are none, and the header is not looked at. */
  readonly #ranges: AddressRanges | null;

  /**
   * Addresses and CIDR ranges. What is neither throws a `TypeError`, and so does a range of everybody: whoever is trusted
   * may claim any address.
   */
  constructor(ranges: readonly string[]) {
    for (const text of ranges) {
      const range = parseAddressRange(text);
      if (!range.ok || range.cidr.endsWith('/0')) throw new TypeError('A proxy is an IP address or a CIDR range.');
    }
    this.#ranges = ranges.length === 0 ? null : AddressRanges.of(ranges);
  }

  /**
   * Walks from the socket back through what each proxy wrote, as long as the hop is a trusted one. The first that is not
   * is the client; what lies before it was sent by the client, which can write there what it likes. A hop that is no
   * address makes the client unknown: null, which no list of addresses holds. The proxy's own address in its place would
   * let a stranger in wherever the proxy may be.
   *
   * @param peer the other end of the socket.
   * @param forwardedFor answers every `X-Forwarded-For` header, in the order in which they came.
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
