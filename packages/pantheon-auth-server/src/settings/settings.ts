/**
 * Parsers of single setting values. They are strict, and errors never repeat the value. The list of settings is in
 * `config.ts`.
 */
import { BlockList, isIP } from 'node:net';
import { AUDIENCE_LENGTH_MAX, AUDIENCES_MAX, PantheonError, TrustedProxies, textFlaw } from 'pantheon-auth';

const PORT_MAX = 65_535;
/** Printable ASCII without the comma that separates them. */
const AUDIENCE_PATTERN = /^[\x21-\x2b\x2d-\x7e]+$/;
/** Enough for several load balancers or the ranges of a CDN. */
const PROXIES_MAX = 64;

export function parsePort(field: string, text: string): number {
  if (text.startsWith('tcp://'))
    throw invalid(field, 'Kubernetes set it for a service of this name. Set enableServiceLinks: false in the pod.');
  const port = /^(?:0|[1-9]\d{0,4})$/.test(text) ? Number(text) : -1;
  if (port < 0 || port > PORT_MAX) throw invalid(field, `Write a whole number from 0 to ${PORT_MAX}.`);
  return port;
}

export function parseCount(
  field: string,
  text: string,
  bounds: { readonly min: number; readonly max: number },
): number {
  const { min, max } = bounds;
  const count = /^(?:0|[1-9]\d{0,8})$/.test(text) ? Number(text) : -1;
  if (count < min || count > max) throw invalid(field, `Write a whole number from ${min} to ${max}.`);
  return count;
}

/** The address to listen on, or a host name. */
export function parseHost(field: string, text: string): string {
  // A name whose last part is a number would be taken for an IPv4 address in an old notation (`127.1`, `2130706433`).
  const isName =
    HOST_NAME.test(text) && text.length <= HOST_NAME_LENGTH_MAX && !/(?:^|\.)(?:\d+|0x[\da-f]*)\.?$/i.test(text);
  if (isIP(text) !== 0 || isName) return text;
  throw invalid(field, 'Write an IP address or a host name, without scheme, brackets and port.');
}

const HOST_NAME = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\.?$/i;
const HOST_NAME_LENGTH_MAX = 253;

/** Whether a host, as a listen address or in a URL, is a loopback address. */
export function isLoopback(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, '$1');
  const family = isIP(address);
  if (family === 0) return /^localhost$/i.test(host);
  return LOOPBACK.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

export function parseSwitch(field: string, text: string): boolean {
  return parseChoice(field, text, ['on', 'off', 'true', 'false'] as const).match(/^(?:on|true)$/) !== null;
}

export function parseChoice<T extends string>(field: string, text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw invalid(field, `Write one of: ${choices.join(', ')}.`);
  return found;
}

/** Separated by commas. */
export function parseAudience(field: string, text: string | undefined): readonly string[] {
  const audience = text === undefined ? [] : text.split(',').map((part) => part.trim());
  const isPlain = (one: string): boolean =>
    one.length <= AUDIENCE_LENGTH_MAX && AUDIENCE_PATTERN.test(one) && textFlaw(one) === null;
  if (audience.length > AUDIENCES_MAX || !audience.every(isPlain))
    throw invalid(
      field,
      `Write 1 to ${AUDIENCES_MAX} names of printable ASCII, separated by commas, without quotation marks.`,
    );
  return audience;
}

/**
 * In normalised form, because clients compare `iss` byte by byte: no slash at the end, no query, no fragment, no user.
 */
export function parsePublicUrl(field: string, text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isPlain = url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
  if (!isPlain || /[?#\s]/.test(text) || text.endsWith('/'))
    throw invalid(field, 'Write an absolute http(s) URL without query, fragment, user or a slash at its end.');
  if (url.origin + (url.pathname === '/' ? '' : url.pathname) !== text)
    throw invalid(field, 'Write it in normalised form: lower case, without default port, percent-encoded.');
  return text;
}

/**
 * Addresses and CIDR ranges, separated by commas. A range of all addresses is refused: every client could then choose
 * its address.
 */
export function parseTrustedProxies(field: string, text: string | undefined): readonly string[] {
  const ranges = text === undefined ? [] : text.split(',').map((part) => part.trim());
  if (ranges.length > PROXIES_MAX || !isProxies(ranges))
    throw invalid(field, `Write at most ${PROXIES_MAX} IP addresses or CIDR ranges, separated by commas.`);
  return ranges;
}

function isProxies(ranges: readonly string[]): boolean {
  try {
    return new TrustedProxies(ranges) !== null;
  } catch {
    return false;
  }
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}
