/**
 * Validates Redis URLs. The driver ignores parameters and fragments, so one would silently have no effect, or is the rest
 * of a password that was not percent-encoded.
 */
import { PantheonError } from '../../foundation/errors.ts';
import { isPercentDecodable } from '../../foundation/written-text.ts';

/** The most addresses. A cluster names its other nodes. */
const ADDRESSES_MAX = 32;

/**
 * Validates one Redis URL, or several separated by commas, before connecting. Errors do not repeat them, because they may
 * contain a password.
 *
 * @param field The name of the option or setting in errors.
 * @returns The single URLs.
 * @throws PantheonError `invalid_setting`.
 *
 * @example
 * ```ts
 * import { parseRedisUrls } from 'pantheon-auth';
 * const [first] = parseRedisUrls('rediss://limits:s%40fe@redis-1.internal:6379,rediss://redis-2.internal:6379');
 * ```
 */
export function parseRedisUrls(text: string, field = 'url'): readonly string[] {
  const urls = String(text)
    .split(',')
    .map((url) => url.trim());
  if (urls.length > ADDRESSES_MAX) throw invalid(field, `At most ${ADDRESSES_MAX} addresses.`);
  if (!urls.every(isRedisUrl))
    throw invalid(
      field,
      'Write redis://host:port or rediss://host:port, or several of one cluster, separated by commas. A password is percent-encoded.',
    );
  return urls;
}

function isRedisUrl(text: string): boolean {
  if (!URL.canParse(text) || !isPercentDecodable(text)) return false;
  const { protocol, hostname, pathname, search, hash } = new URL(text);
  const isDatabase = /^\/?\d{0,4}$/.test(pathname);
  return /^rediss?:$/.test(protocol) && hostname !== '' && isDatabase && search === '' && hash === '';
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field, detail });
}
