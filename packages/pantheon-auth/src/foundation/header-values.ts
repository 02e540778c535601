/** Reads headers of a request of Node as they were sent. */

/**
 * All values of a header in `rawHeaders` of a Node request, in order; `name` in lower case. Node's `headers` keeps only
 * the first of two; `headersDistinct` processes all headers, and HTTP/2 requests do not have it. For `AuthRequest`.
 *
 * @example
 * ```ts
 * import type { IncomingMessage } from 'node:http';
 * import { type AuthRequest, headerValues } from 'pantheon-auth';
 * const toAuthRequest = ({ url, rawHeaders, socket }: IncomingMessage): AuthRequest => ({
 *   url: url ?? '',
 *   header: (name) => headerValues(rawHeaders, name),
 *   address: socket.remoteAddress ?? null,
 * });
 * ```
 */
export function headerValues(rawHeaders: readonly string[], name: string): readonly string[] {
  const values: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const field = rawHeaders[at];
    if (field?.length === name.length && field.toLowerCase() === name) values.push(rawHeaders[at + 1] ?? '');
  }
  return values;
}
