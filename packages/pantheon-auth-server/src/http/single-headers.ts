/**
 * Refuses repeated headers that may occur once. Node keeps the first value of some and joins others, while a proxy in
 * front may have used the second.
 */
import type { IncomingMessage } from 'node:http';
import { PantheonError } from 'pantheon-auth';

const SINGLE: ReadonlySet<string> = new Set(['host', 'content-type', 'idempotency-key', 'pantheon-tenant']);

/** `uri-host [ ":" port ]` of RFC 9110 section 7.2; empty where the target has no authority. */
const HOST = /^(?:[\w.~!$&'()*+,;=%-]*|\[[0-9a-f:.]{2,64}\])(?::\d{0,5})?$/i;

/** @throws PantheonError `invalid_request`, naming the header. */
export function assertSingleHeaders({ rawHeaders, httpVersion }: IncomingMessage): void {
  let host: string | null = null;
  const seen = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]?.toLowerCase() ?? '';
    if (!SINGLE.has(name)) continue;
    if (seen.has(name)) throw invalid(name, 'It was sent twice.');
    seen.add(name);
    if (name === 'host') host = rawHeaders[at + 1] ?? '';
  }
  // RFC 9112 section 3.2. HTTP/1.0, which simple health checks still use, does not require it.
  if (host === null && httpVersion !== '1.0') throw invalid('host', 'It is missing.');
  if (host !== null && !HOST.test(host)) throw invalid('host', 'Write a host, and a port if there is one.');
}

/** Names the header in its usual capitalisation. */
function invalid(name: string, detail: string): PantheonError {
  const field = name.replace(/(?:^|-)[a-z]/g, (start) => start.toUpperCase());
  return new PantheonError('invalid_request', { field, detail });
}
