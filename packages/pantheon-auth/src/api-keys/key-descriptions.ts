/**
 * Descriptions of the settings of a key for the OpenAPI file, with units and bounds. The bounds are those of
 * `key-input.ts`; a test of the service compares the two.
 */
import type { z } from 'zod';
import type { KeySettings } from '../domain/key.ts';

/** The description of a member, and its default on creation. */
interface Description {
  readonly is: string;
  readonly byDefault?: string;
}

const DURATION = '"15m", "12h", "90d", or whole seconds';

const MEMBERS: Readonly<Record<keyof KeySettings | 'expiresIn', Description>> = {
  userId: { is: 'The id of the user that the key belongs to; `sub` of its tokens. 1 to 256 characters.' },
  name: { is: 'A display name. 1 to 128 characters.' },
  description: { is: 'A longer description. 1 to 1024 characters.' },
  environment: { is: 'The environment in which the key is accepted. It never changes.', byDefault: 'live' },
  permissions: { is: 'What the key may do, such as orders:read or orders:*. At most 256.', byDefault: 'none' },
  grantable: {
    is: 'Application permissions that the key may give to other keys. At most 256, none under pantheon:.',
    byDefault: 'none',
  },
  notBefore: {
    is: 'The key is denied before this ISO 8601 time, which must be earlier than its expiry.',
    byDefault: 'at once',
  },
  expiresAt: { is: 'The key is denied from this ISO 8601 time on, which must be in the future.', byDefault: 'never' },
  expiresIn: { is: `The expiry as a duration from now, instead of expiresAt: ${DURATION}; 1 second to 3650 days.` },
  rateLimits: {
    is: 'Rate limits. Each holds in every sliding window of its length. At most 8, with different names.',
    byDefault: 'none',
  },
  quota: { is: 'How often the key may be used in a calendar day or month, UTC.', byDefault: 'none' },
  ipAllowlist: {
    is: 'IPv4 or IPv6 addresses and CIDR ranges that the key may be used from. At most 64.',
    byDefault: 'from anywhere',
  },
  rotation: {
    is: 'The rotation policy. With it the holder of the key may rotate the key itself, and with `every` the service announces when the next rotation is due.',
    byDefault: 'none',
  },
  jwt: { is: 'Settings of tokens made from the key.', byDefault: 'ES256, the audience of the service, 5 minutes' },
  metadata: { is: 'Any JSON object of at most 4096 bytes and 8 levels. Stored encrypted.', byDefault: 'none' },
};

/** Descriptions of the members inside a setting. */
export const INNER_DESCRIPTIONS: {
  readonly rateLimit: Readonly<Record<'name' | 'limit' | 'window', string>>;
  readonly quota: Readonly<Record<'limit' | 'period', string>>;
  readonly rotation: Readonly<Record<'every' | 'overlap' | 'window' | 'onMissed' | 'recipientJwk', string>>;
  readonly jwt: Readonly<Record<'algorithm' | 'audience' | 'customClaims' | 'ttl', string>>;
} = {
  rateLimit: {
    name: 'The name of the limit in answers and headers. 1 to 32 characters of a-z, 0-9, _ and -, the first a letter; not quota.',
    limit: 'Uses in a window, 1 to 1000000000.',
    window: `The length of the window: ${DURATION}; 1 second to 31 days.`,
  },
  quota: {
    limit: 'Uses in a period, 1 to 1000000000.',
    period: 'The calendar day or month, UTC.',
  },
  rotation: {
    every: `The age of a version at which a rotation is due: ${DURATION}; at least 1 second. Default: a rotation is never due.`,
    overlap: `How long the previous version is still accepted after a rotation: ${DURATION}; at most 30 days. Default: 1 day.`,
    window: `How long the holder has to claim the next version, once the rotation is due: ${DURATION}; 1 minute to 90 days. Default: 7 days.`,
    onMissed:
      'What happens when the window passes. extend: another window is opened, twice as long. expire: the key expires. Default: extend.',
    recipientJwk:
      'A public key of the holder (JWK: RSA of 2048 to 4096 bits, EC on P-256, or OKP on X25519). With it the service rotates the key by itself and encrypts the next key string to it; the holder fetches it from GET /v1/self/next. It is replaced as a whole. Setting it needs pantheon:keys:rotate. Default: none.',
  },
  jwt: {
    algorithm:
      'The signature algorithm. HS256 uses a secret derived from the key, and only this service can verify it.',
    audience:
      'The audiences that tokens may have, out of those of the service and the tenant. At most 16, each of 1 to 512 characters. Default: those of the service.',
    customClaims: 'Additional claims of the tokens. At most 32, and 4096 bytes as JSON. Default: none.',
    ttl: `The lifetime: ${DURATION}; 1 second to 1 hour, with HS256 at most 5 minutes. Default: 5 minutes.`,
  },
};

/** The shape with descriptions of its members. For `create` they include the defaults. */
export function describedMembers<S extends z.ZodRawShape>(shape: S, when: 'create' | 'update'): S {
  const texts = Object.entries(MEMBERS).map(([name, { is, byDefault }]) => [
    name,
    when === 'create' && byDefault !== undefined ? `${is} Default: ${byDefault}.` : is,
  ]);
  return described(shape, Object.fromEntries(texts) as { readonly [Name in keyof S]: string });
}

/** The shape with these descriptions. They are added last, because wrapping a schema hides its description. */
export function described<S extends z.ZodRawShape>(shape: S, texts: { readonly [Name in keyof S]: string }): S {
  const entries = Object.entries(shape).map(([name, schema]) => [
    name,
    (schema as z.ZodType).describe(texts[name] ?? ''),
  ]);
  return Object.fromEntries(entries) as S;
}
