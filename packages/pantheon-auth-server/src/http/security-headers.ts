/** Headers on every answer, so that a browser does not run, frame or reinterpret an answer of the API. */
import type { Config } from '../settings/config.ts';

/** No resources, no framing, no form targets. */
export const API_CSP = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** Two years, as browsers' preload lists require. */
const HSTS_SECONDS = 63_072_000;

/** Also on answers to requests that could not be parsed. */
export const CONNECTION_HEADERS = {
  'content-security-policy': API_CSP,
  'cross-origin-opener-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  // Public answers override this.
  'cache-control': 'no-store',
  vary: 'Authorization, X-API-Key',
} as const;

export function securityHeaders(config: Pick<Config, 'publicUrl'>): Readonly<Record<string, string>> {
  if (!config.publicUrl.startsWith('https:')) return CONNECTION_HEADERS;
  return { ...CONNECTION_HEADERS, 'strict-transport-security': `max-age=${HSTS_SECONDS}` };
}
