/**
 * What the members of a key are, for the API file: a line each, with unit and bounds. The bounds are those of
 * `key-input.ts`; a test of the service holds the two together.
 */
import type { z } from 'zod';
import type { KeySettings } from '../domain/key.ts';

/** What is said of a member: always, and how a key is made that does not name it. */
interface Description {
  readonly is: string;
  readonly byDefault?: string;
}

const DURATION = '"15m", "12h", "90d", or whole seconds';

const MEMBERS: Readonly<Record<keyof KeySettings | 'expiresIn', Description>> = {
  userId: { is: 'Whose key it is: the `sub` of its tokens. 1 to 256 characters.' },
  name: { is: 'For people, to tell it from other keys. 1 to 128 characters.' },
  description: { is: 'More for people. 1 to 1024 characters.' },
  environment: { is: 'Where it is accepted. It never changes.', byDefault: 'live' },
  permissions: { is: 'What it may do, as in orders:read or orders:*. At most 256.', byDefault: 'none' },
  grantable: {
    is: 'Application permissions that it may put on other keys. At most 256, none under pantheon:.',
    byDefault: 'none',
  },
  notBefore: { is: 'It is refused before: an ISO 8601 time, earlier than its end.', byDefault: 'at once' },
  expiresAt: { is: 'It is refused from then on: an ISO 8601 time in the future.', byDefault: 'never' },
  expiresIn: { is: `Instead of expiresAt, from now: ${DURATION}; 1 second to 3650 days.` },
  rateLimits: {
    is: 'How often it may be used; all of them hold, in any window. At most 8, each name once.',
    byDefault: 'none',
  },
  quota: { is: 'How often it may be used in a calendar day or month, UTC.', byDefault: 'none' },
  ipAllowlist: {
    is: 'IPv4 or IPv6 addresses and CIDR ranges that it may be used from. At most 64.',
    byDefault: 'from anywhere',
  },
  rotation: {
    is: 'How its secret is renewed. With it the holder may renew the secret itself.',
    byDefault: 'none',
  },
  jwt: { is: 'How its tokens are made.', byDefault: 'ES256, for the service, for 5 minutes' },
  metadata: { is: 'Plain JSON of at most 4096 bytes and 8 levels, sealed in the store.', byDefault: 'none' },
};

/** The same for what is in a member. */
export const INNER_DESCRIPTIONS: {
  readonly rateLimit: Readonly<Record<'name' | 'limit' | 'window', string>>;
  readonly quota: Readonly<Record<'limit' | 'period', string>>;
  readonly rotation: Readonly<Record<'every' | 'overlap', string>>;
  readonly jwt: Readonly<Record<'algorithm' | 'audience' | 'customClaims' | 'ttl', string>>;
} = {
  rateLimit: {
    name: 'Names the limit in answers and headers. 1 to 32 of a-z 0-9 _ -, a letter first; not quota.',
    limit: 'Uses in a window, 1 to 1000000000.',
    window: `How long a window is: ${DURATION}; 1 second to 31 days.`,
  },
  quota: {
    limit: 'Uses in a period, 1 to 1000000000.',
    period: 'The calendar day or month, UTC.',
  },
  rotation: {
    every: `How old a secret may become until a new one is due: ${DURATION}; at least 1 hour. Default: none is ever due.`,
    overlap: `How long the secret before a new one is still accepted: ${DURATION}; at most 30 days. Default: 1 day.`,
  },
  jwt: {
    algorithm: 'How they are signed. HS256: with a secret of the key itself, verified by this service alone.',
    audience:
      'Whom they may be for: those of the service and of the tenant. At most 16, each of 1 to 512 characters. Default: the service.',
    customClaims: 'Claims that they carry besides, by name. At most 32, and 4096 bytes as JSON. Default: none.',
    ttl: `How long they live: ${DURATION}; 1 second to 1 hour, with HS256 to 5 minutes. Default: 5 minutes.`,
  },
};

/** The shape with what its members are. `create`: also what a key is made with that does not name them. */
export function describedMembers<S extends z.ZodRawShape>(shape: S, when: 'create' | 'update'): S {
  const texts = Object.entries(MEMBERS).map(([name, { is, byDefault }]) => [
    name,
    when === 'create' && byDefault !== undefined ? `${is} Default: ${byDefault}.` : is,
  ]);
  return described(shape, Object.fromEntries(texts) as { readonly [Name in keyof S]: string });
}

/** The shape with these descriptions. They come last: what is wrapped around a described schema hides its description. */
export function described<S extends z.ZodRawShape>(shape: S, texts: { readonly [Name in keyof S]: string }): S {
  const entries = Object.entries(shape).map(([name, schema]) => [
    name,
    (schema as z.ZodType).describe(texts[name] ?? ''),
  ]);
  return Object.fromEntries(entries) as S;
}
