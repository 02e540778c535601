/**
 * Network addresses and ranges. Every address is normalised first (IPv4-mapped IPv6 becomes IPv4), so that another
 * notation of an address cannot bypass an allowlist or get its own counter.
 */
import { BlockList, isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

export type ParsedAddressRange = { readonly ok: true; readonly cidr: string } | { readonly ok: false };

type Address = ipaddr.IPv4 | ipaddr.IPv6;

interface Range {
  readonly network: Address;
  readonly prefix: number;
}

/** A range as bytes, for many comparisons: formatting an address as text takes microseconds. */
interface RangeBytes {
  readonly bytes: readonly number[];
  readonly prefix: number;
}

/** Fits the longest IPv6 address with a zone. Longer text is not parsed. */
const ADDRESS_CHARACTERS_MAX = 64;

/** Fits such an address in brackets and with a port. */
const WRITTEN_CHARACTERS_MAX = ADDRESS_CHARACTERS_MAX + '[]:65535'.length;

/** `::ffff:0:0/96` is how IPv6 writes IPv4. */
const MAPPED_PREFIX_BITS = 96;

/** A site gets at least a /64 and can use any address in it, so a /64 counts as one sender. */
const SENDER_PREFIX_BITS = 64;

/** The sender for everything that is not an address. */
export const UNKNOWN_SCOPE = 'unknown';

/**
 * Parses an address or a CIDR range to its canonical CIDR: host bits cleared, a single address as /32 or /128,
 * IPv4-mapped IPv6 as IPv4. Old IPv4 notations (`127.1`, `0x7f.1`, `2130706433`, leading zeros) are refused, because
 * programs interpret them differently; so are zones, which are local to a machine.
 */
export function parseAddressRange(text: string): ParsedAddressRange {
  const range = rangeOf(text);
  return range === null ? { ok: false } : { ok: true, cidr: cidrOf(range) };
}

/** A set of ranges, built once for many lookups. */
export class AddressRanges {
  // Two lists, because in one list `::/0` would also contain every IPv4 address.
  readonly #ipv4 = new BlockList();
  readonly #ipv6 = new BlockList();

  private constructor(ranges: readonly Range[]) {
    for (const { network, prefix } of ranges) {
      const list = network.kind() === 'ipv4' ? this.#ipv4 : this.#ipv6;
      list.addSubnet(network.toString(), prefix, network.kind());
    }
  }

  /** Throws for a text that is not a range: ignoring it would change the meaning of the list. */
  static of(cidrs: readonly string[]): AddressRanges {
    return new AddressRanges(rangesOf(cidrs));
  }

  /** Whether a range contains the address. False for what is not an address. */
  contains(address: string): boolean {
    const parsed = addressOf(address);
    if (parsed === null) return false;
    return parsed.kind() === 'ipv4'
      ? this.#ipv4.check(parsed.toString(), 'ipv4')
      : this.#ipv6.check(parsed.toString(), 'ipv6');
  }
}

/** The ranges of the allowlist of a key; null: any address. */
export function addressesOf(ipAllowlist: readonly string[]): AddressRanges | null {
  return ipAllowlist.length === 0 ? null : AddressRanges.of(ipAllowlist);
}

/**
 * Whether every child range is inside some parent range. An empty list means "from anywhere", as on a key, so an empty
 * child list is within an empty parent list only.
 */
export function isWithin(child: readonly string[], parent: readonly string[]): boolean {
  if (parent.length === 0) return true;
  if (child.length === 0) return false;
  const outer = rangesOf(parent).map(bytesOf);
  return rangesOf(child).every((range) => {
    const inner = bytesOf(range);
    return outer.some((one) => covers(one, inner));
  });
}

/**
 * Normalises an address as servers and proxies write it: without port, brackets and zone, IPv4-mapped IPv6 as IPv4,
 * IPv6 as in RFC 5952. Null for what is no address.
 */
export function normalAddress(text: string): string | null {
  // The usual case.
  if (isIP(text) === 4) return text;
  if (text.length > WRITTEN_CHARACTERS_MAX) return null;
  const [, inBrackets, beforePort] = WITH_PORT.exec(text) ?? [];
  if (inBrackets !== undefined && !inBrackets.includes(':')) return null;
  return addressOf(inBrackets ?? beforePort ?? text)?.toString() ?? null;
}

/**
 * `[2001:db8::1]`, `[2001:db8::1]:443` and `192.0.2.1:443`. Without brackets, a port cannot be distinguished
 * from the last part of an IPv6 address.
 */
const WITH_PORT = /^(?:\[([^[\]]*)\](?::\d{1,5})?|([\d.]+):\d{1,5})$/;

/**
 * The sender that failures are counted for: an IPv4 address, an IPv6 /64, or `unknown` for what is no address. Use it for
 * other shares per sender too, because a site can use every address of its /64.
 */
export function clientBucket(address: string): string {
  const parsed = addressOf(address);
  if (parsed === null) return UNKNOWN_SCOPE;
  return parsed.kind() === 'ipv4' ? parsed.toString() : cidrOf(rangeFrom(parsed, SENDER_PREFIX_BITS));
}

/** Checked with `isIP` first, because `ipaddr.js` also accepts old IPv4 notations. A zone is dropped. */
function addressOf(text: string): Address | null {
  const family = text.length > ADDRESS_CHARACTERS_MAX ? 0 : isIP(text);
  if (family === 0) return null;
  if (family === 4) return ipaddr.IPv4.parse(text);
  const address = ipv6Of(text);
  return address.isIPv4MappedAddress() ? address.toIPv4Address() : address;
}

/**
 * Converts an IPv4 tail to hexadecimal first, because `ipaddr.js` takes `::10.0.0.1` for the mapped form, which is
 * another address.
 */
function ipv6Of(text: string): ipaddr.IPv6 {
  const zoneAt = text.indexOf('%');
  const address = zoneAt === -1 ? text : text.slice(0, zoneAt);
  const tailAt = address.lastIndexOf(':') + 1;
  if (!address.includes('.')) return ipaddr.IPv6.parse(address);
  const [a = 0, b = 0, c = 0, d = 0] = ipaddr.IPv4.parse(address.slice(tailAt)).octets;
  return ipaddr.IPv6.parse(`${address.slice(0, tailAt)}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`);
}

function rangeOf(text: string): Range | null {
  if (text.includes('%')) return null;
  const slashAt = text.indexOf('/');
  const written = slashAt === -1 ? text : text.slice(0, slashAt);
  const address = addressOf(written);
  if (address === null) return null;
  const bits = address.kind() === 'ipv4' ? 32 : 128;
  if (slashAt === -1) return { network: address, prefix: bits };

  const prefixText = text.slice(slashAt + 1);
  if (!/^(?:0|[1-9]\d{0,2})$/.test(prefixText)) return null;
  const prefix = Number(prefixText);
  if (prefix > (written.includes(':') ? 128 : 32)) return null;

  const isMapped = address.kind() === 'ipv4' && written.includes(':');
  if (!isMapped) return rangeFrom(address, prefix);
  if (prefix >= MAPPED_PREFIX_BITS) return rangeFrom(address, prefix - MAPPED_PREFIX_BITS);
  // A range wider than the mapped block is an IPv6 range, although written with an IPv4 part.
  return rangeFrom(ipv6Of(written), prefix);
}

function rangesOf(cidrs: readonly string[]): Range[] {
  return cidrs.map((cidr) => {
    const range = rangeOf(cidr);
    if (range === null) throw new TypeError('An address range has to be parsed before it is used.');
    return range;
  });
}

function rangeFrom(address: Address, prefix: number): Range {
  const bytes = address.toByteArray().map((byte, index) => keptOf(byte, index, prefix));
  return { network: ipaddr.fromByteArray(bytes), prefix };
}

/** The bits of the byte at this index that belong to the prefix. */
function keptOf(byte: number, index: number, prefix: number): number {
  const bitsKept = Math.min(8, Math.max(0, prefix - 8 * index));
  return byte & (0xff << (8 - bitsKept));
}

function bytesOf({ network, prefix }: Range): RangeBytes {
  return { bytes: network.toByteArray(), prefix };
}

/** Addresses of the same family have the same number of bytes. The host bits of a range are zero. */
function covers(outer: RangeBytes, inner: RangeBytes): boolean {
  if (outer.bytes.length !== inner.bytes.length || outer.prefix > inner.prefix) return false;
  for (let index = 0; 8 * index < outer.prefix; index += 1)
    if (outer.bytes[index] !== keptOf(inner.bytes[index] ?? 0, index, outer.prefix)) return false;
  return true;
}

/** IPv6 is written as in RFC 5952, so that each range has one spelling. */
function cidrOf({ network, prefix }: Range): string {
  return `${network.toString()}/${prefix}`;
}
