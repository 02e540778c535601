/** Arbitrary values of the domain for property tests. All are valid, as after parsing. */
import fc, { type Arbitrary } from 'fast-check';
import {
  type Actor,
  type AuditContext,
  EVENT_SUBJECTS,
  type EventType,
  jobActor,
  type RecordedEvent,
} from '../domain/event.ts';
import type {
  Environment,
  JwtSettings,
  KeyRecord,
  KeySettings,
  KeyState,
  KeyVersion,
  RotationSettings,
} from '../domain/key.ts';
import type { RateLimitRule } from '../domain/limits.ts';
import { PERMISSION_SEGMENTS_MAX } from '../domain/permissions.ts';
import type { TenantRecord } from '../domain/tenant.ts';
import type { Instant } from '../foundation/clock.ts';
import { BASE62_ALPHABET, type Json, type JsonObject } from '../foundation/encoding.ts';
import { ID_LENGTH } from '../foundation/ids.ts';

/** Whole milliseconds from 2020 to 2100. */
export const anyInstant: Arbitrary<Instant> = fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2100, 0) });

export const anyId: Arbitrary<string> = fc.string({
  unit: fc.constantFrom(...BASE62_ALPHABET),
  minLength: ID_LENGTH,
  maxLength: ID_LENGTH,
});

export const anyEnvironment: Arbitrary<Environment> = fc.constantFrom('live', 'test');

/** A few short segments, so that patterns often match permissions, and sometimes any characters. */
const segment: Arbitrary<string> = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom('pantheon', 'keys', 'app', 'read', 'a', 'b') },
  { weight: 1, arbitrary: fc.string({ unit: fc.constantFrom(...'abz019._-'), minLength: 1, maxLength: 6 }) },
);

const segments = (max: number): Arbitrary<string[]> =>
  fc.oneof(
    { weight: 9, arbitrary: fc.array(segment, { minLength: 1, maxLength: Math.min(3, max) }) },
    { weight: 1, arbitrary: fc.array(segment, { minLength: 1, maxLength: max }) },
  );

/** One concrete permission. */
export const anyPermission: Arbitrary<string> = segments(PERMISSION_SEGMENTS_MAX).map((parts) => parts.join(':'));

/** A permission or a pattern. */
export const anyPermissionPattern: Arbitrary<string> = fc.oneof(
  anyPermission,
  segments(PERMISSION_SEGMENTS_MAX - 1).map((parts) => `${parts.join(':')}:*`),
  fc.constant('*'),
);

/** Text for people: no control characters, no space at its ends. */
const text = (maxLength: number): Arbitrary<string> =>
  fc
    .string({ unit: fc.constantFrom(...'abcXYZ019 .-/@äß漢😀'), minLength: 1, maxLength })
    .map((line) => line.trim() || 'x');

const PROTOTYPE_MEMBER = /"(__proto__|constructor|prototype)":/g;

/** Plain JSON as a parser returns it: no -0, no member named like a prototype. */
export const anyJsonObject: Arbitrary<JsonObject> = fc
  .dictionary(fc.string({ unit: 'grapheme', maxLength: 8 }), fc.jsonValue({ maxDepth: 3 }), {
    maxKeys: 5,
    noNullPrototype: true,
  })
  .map((value) => JSON.parse(JSON.stringify(value).replaceAll(PROTOTYPE_MEMBER, '"other":')) as JsonObject);

/** The public key of RFC 7748 section 6.1, as a JWK. */
const RECIPIENT_JWK = { kty: 'OKP', crv: 'X25519', x: 'hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo' };

const list = (pattern: Arbitrary<string>): Arbitrary<string[]> => fc.uniqueArray(pattern, { maxLength: 5 });

const rateLimits: Arbitrary<RateLimitRule[]> = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('burst', 'minute', 'hour'),
    limit: fc.integer({ min: 1, max: 1_000_000 }),
    windowSeconds: fc.integer({ min: 1, max: 86_400 }),
  }),
  { selector: ({ name }) => name, maxLength: 3 },
);

/** Only a scheduled rotation has a recipient, or a window that can be missed. */
const rotation: Arbitrary<RotationSettings> = fc
  .record({
    everySeconds: fc.option(fc.integer({ min: 1, max: 31_536_000 })),
    overlapSeconds: fc.integer({ min: 0, max: 2_592_000 }),
    windowSeconds: fc.integer({ min: 60, max: 7_776_000 }),
    onMissed: fc.constantFrom('extend', 'expire'),
    recipientJwk: fc.constantFrom(null, RECIPIENT_JWK),
  })
  .map((policy): RotationSettings => {
    const { everySeconds, overlapSeconds, recipientJwk } = policy;
    if (everySeconds === null) return { ...policy, onMissed: 'extend', recipientJwk: null };
    const isTooLong = recipientJwk !== null && overlapSeconds >= everySeconds;
    return isTooLong ? { ...policy, overlapSeconds: 0 } : policy;
  });

const claim: Arbitrary<Json> = fc.oneof(text(8), fc.integer(), fc.boolean(), fc.constant(null), fc.array(text(8)));

const jwt: Arbitrary<JwtSettings> = fc.record({
  algorithm: fc.constantFrom('HS256', 'RS256', 'ES256', 'Ed25519'),
  audience: list(fc.constantFrom('https://api.example', 'reports', 'billing')),
  customClaims: fc.dictionary(fc.constantFrom('plan', 'region', 'seats'), claim, { noNullPrototype: true }),
  ttlSeconds: fc.integer({ min: 1, max: 300 }),
});

const ipAllowlist: Arbitrary<string[]> = list(
  fc.constantFrom('10.0.0.0/8', '10.1.0.0/16', '192.0.2.7/32', '2001:db8::/32'),
);

/** The settings of a key. */
export const anyKeySettings: Arbitrary<KeySettings> = fc.record({
  userId: text(20),
  name: text(20),
  description: fc.option(text(40)),
  environment: anyEnvironment,
  permissions: list(anyPermissionPattern),
  grantable: list(anyPermissionPattern),
  notBefore: fc.option(anyInstant),
  expiresAt: fc.option(anyInstant),
  rateLimits,
  quota: fc.option(
    fc.record({ limit: fc.integer({ min: 1, max: 1_000_000 }), period: fc.constantFrom('day', 'month') }),
  ),
  ipAllowlist,
  rotation: fc.option(rotation),
  jwt: fc.option(jwt),
  metadata: fc.option(anyJsonObject),
});

const state: Arbitrary<KeyState> = fc.oneof(
  fc.constant({ kind: 'active' } as const),
  fc.record({ kind: fc.constant('suspended'), at: anyInstant, reason: fc.option(text(20)) }),
  fc.record({ kind: fc.constant('revoked'), at: anyInstant, reason: fc.option(text(20)) }),
);

/** Newest first; the first is current. */
const versions: Arbitrary<[KeyVersion, ...KeyVersion[]]> = fc
  .tuple(anyInstant, fc.array(fc.tuple(anyInstant, anyInstant), { maxLength: 3 }))
  .map(([createdAt, older]) => [
    { version: older.length + 1, createdAt, acceptedUntil: null },
    ...older.map(([at, until], index) => ({ version: older.length - index, createdAt: at, acceptedUntil: until })),
  ]);

/** The record of a key in any state. */
export const anyKeyRecord: Arbitrary<KeyRecord> = fc
  .tuple(
    anyKeySettings,
    versions,
    fc.record({
      id: anyId,
      tenantId: fc.constantFrom('default', 'system', 'acme'),
      createdAt: anyInstant,
      createdBy: fc.option(anyId),
      state,
      tokensNotBefore: fc.option(anyInstant),
      revision: fc.integer({ min: 1, max: 1_000 }),
      idTag: fc.option(fc.integer({ min: 1, max: 5 })),
    }),
  )
  .map(([settings, kept, rest]) => ({ ...settings, ...rest, version: kept[0].version, versions: kept }));

export const anyTenant: Arbitrary<TenantRecord> = fc.record({
  id: fc.constantFrom('default', 'system', 'acme'),
  name: text(20),
  state: fc.constantFrom('active', 'suspended', 'deleted'),
  audiences: fc.option(fc.uniqueArray(text(20), { maxLength: 3 })),
  createdAt: anyInstant,
  revision: fc.integer({ min: 1, max: 1_000 }),
});

/** The audit context of a change. */
export const anyCircumstances: Arbitrary<AuditContext> = fc.record({
  actor: fc.oneof<Arbitrary<Actor>[]>(
    fc.record({
      keyId: fc.option(anyId),
      userId: fc.option(text(20)),
      address: fc.option(fc.ipV4()),
      userAgent: fc.option(text(20)),
    }),
    fc.constantFrom('usage-retention', 'scheduled-rotation').map(jobActor),
  ),
  requestId: fc.option(anyId),
  reason: fc.option(text(20)),
});

const attributes: Arbitrary<JsonObject> = fc
  .tuple(anyJsonObject, fc.record({ name: text(20), userId: text(20), state: text(8) }, { requiredKeys: [] }))
  .map(([given, known]) => ({ ...given, ...known }));

/** Any event of any type with any attributes, for properties that must hold for every log. */
export const anyEvent: Arbitrary<RecordedEvent & { readonly type: EventType }> = fc
  .tuple(
    fc.constantFrom(...(Object.keys(EVENT_SUBJECTS) as EventType[])),
    anyCircumstances,
    fc.record({
      id: anyId,
      at: anyInstant,
      tenantId: fc.constantFrom('default', 'system', 'acme'),
      before: fc.option(attributes),
      after: fc.option(attributes),
    }),
    anyId,
  )
  .map(([type, by, rest, subjectId]) => ({
    ...rest,
    ...by,
    type,
    subject: { type: EVENT_SUBJECTS[type], id: subjectId },
  }));
