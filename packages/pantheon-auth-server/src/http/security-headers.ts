/** Headers on every answer, so that a browser that is led here can do nothing with it. */
import type { Config } from '../settings/config.ts';

/** Nothing loads, nothing frames, nothing is sent on. */
export const API_CSP = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** Two years, as browsers' preload lists want. */
const HSTS_SECONDS = 63_072_000;

/** Also on answers to what never became a request. */
export const CONNECTION_HEADERS = {
  'content-security-policy': API_CSP,
  'cross-origin-opener-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  // What is public says so itself.
  'cache-control': 'no-store',
  vary: 'Authorization, X-API-Key',
} as const;

export function securityHeaders(config: Pick<Config, 'publicUrl'>): Readonly<Record<string, string>> {
  if (!config.publicUrl.startsWith('https:')) return CONNECTION_HEADERS;
  return { ...CONNECTION_HEADERS, 'strict-transport-security': `max-age=${HSTS_SECONDS}` };
}
