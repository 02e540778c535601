/** What the service shows, as schemas: for the OpenAPI file, and for the tests that hold the answers to it. */
import { z } from 'zod';

const time = z.iso.datetime().meta({ examples: ['2030-01-31T00:00:00.000Z'] });
const json = z.record(z.string(), z.unknown());
const environment = z.enum(['live', 'test']);

/** Cut off, so that no scanner takes it for a key. */
export const EXAMPLE_KEY = 'pan_live_0123456789abcdef…';

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string().describe('Stable. Decide by this.'),
    detail: z.string(),
    instance: z.string().optional().describe('The request id: what to tell the operator.'),
    field: z.string().optional(),
    'violated-policies': z.array(z.string()).optional(),
  })
  .meta({ id: 'Problem', description: 'RFC 9457 problem details.' });

export const oauthErrorSchema = z
  .strictObject({ error: z.string(), error_description: z.string() })
  .meta({ id: 'OAuthError', description: 'RFC 6749 section 5.2.' });

const etag = z
  .string()
  .describe('For If-Match, as it is.')
  .meta({ examples: ['"k7"'] });

export const apiKeySchema = z
  .strictObject({
    id: z.string(),
    etag,
    tenantId: z.string(),
    userId: z.string(),
    name: z.string(),
    description: z.string().optional(),
    environment,
    hint: z.string().describe('Prefix, environment and id: no part of the secret.'),
    permissions: z.array(z.string()),
    grantable: z.array(z.string()),
    createdAt: time,
    createdBy: z.string().optional(),
    notBefore: time.optional(),
    expiresAt: time.optional(),
    lastUsedAt: time.optional(),
    usageCount: z.int(),
    isActive: z.boolean(),
    state: z.enum(['active', 'suspended', 'revoked']),
    stateReason: z.string().optional(),
    stateChangedAt: time.optional(),
    version: z.int(),
    rateLimits: z.array(z.strictObject({ name: z.string(), limit: z.int(), window: z.string() })),
    quota: z.strictObject({ limit: z.int(), period: z.enum(['day', 'month']) }).optional(),
    ipAllowlist: z.array(z.string()),
    rotation: z.strictObject({ every: z.string().optional(), overlap: z.string(), dueAt: time.optional() }).optional(),
    jwt: z
      .strictObject({
        algorithm: z.enum(['HS256', 'RS256', 'ES256', 'Ed25519']),
        audience: z.array(z.string()),
        customClaims: json,
        ttl: z.string(),
      })
      .optional(),
    metadata: json.optional(),
  })
  .meta({ id: 'APIKey', description: 'The record of a key. It never holds a secret or a hash.' });

/** What a token may know of its key: no more than it says itself. */
export const tokenSelfSchema = z
  .strictObject({
    id: z.string().describe('Of its key.'),
    environment,
    permissions: z.array(z.string()).describe('What both the token and its key allow.'),
    expiresAt: time,
  })
  .meta({ id: 'TokenSelf', description: 'What a token is shown of itself.' });

/** What `settle=true` adds to the answer of a change. */
const settled = {
  settledAt: time
    .optional()
    .describe(
      'With settle=true: from then on no node says yes on what was before. Absent: this node is stopping and did not wait.',
    ),
  offlineUntil: time
    .nullable()
    .optional()
    .describe(
      'With settle=true: the latest exp of a token issued before; until then, and its own leeway, a verifier that has only the public keys may accept one. Null: only this service verifies the tokens of the key.',
    ),
};

export const changedKeySchema = apiKeySchema
  .extend(settled)
  .meta({ id: 'ChangedAPIKey', description: 'The record of a key after a change.' });

const actedOnKeySchema = z
  .strictObject({
    keyId: z.string(),
    tenantId: z.string(),
    did: z.array(z.enum(['created', 'rotated', 'secret_replaced', 'updated', 'resumed'])),
    revoked: z.boolean().describe('Whether this call revoked it. If not, it is as it was: look at it.'),
  })
  .meta({ id: 'ActedOnKey', description: 'A key that a revoked one acted on.' });

export const revokedKeySchema = apiKeySchema
  .extend({
    actedOn: z
      .strictObject({
        items: z.array(actedOnKeySchema),
        complete: z.boolean().describe('If false: deal with these, then repeat the call.'),
      })
      .optional()
      .describe('With cascade: keys that were alive and that the revoked ones had acted on.'),
    ...settled,
  })
  .meta({ id: 'RevokedAPIKey', description: 'The record of a key that was revoked.' });

const quarantinedKeySchema = z
  .strictObject({ id: z.string(), createdAt: time, quarantined: z.literal(true) })
  .meta({ id: 'QuarantinedKey', description: 'A key whose record cannot be opened. It is refused until it can.' });

export const keyPageSchema = pageOf(z.union([apiKeySchema, quarantinedKeySchema])).meta({ id: 'APIKeyPage' });

const keyString = z
  .string()
  .describe('Shown once: it is not stored.')
  .meta({ examples: [EXAMPLE_KEY] });

export const createdKeySchema = z.strictObject({ key: keyString, apiKey: apiKeySchema }).meta({ id: 'CreatedKey' });

export const rotationSchema = z
  .strictObject({
    key: keyString,
    apiKey: apiKeySchema,
    previous: z.strictObject({ version: z.int(), acceptedUntil: time }),
  })
  .meta({ id: 'RotatedKey' });

export const settledRotationSchema = rotationSchema.extend(settled).meta({ id: 'ChangedRotatedKey' });

export const versionSchema = z
  .strictObject({
    version: z.int(),
    state: z.enum(['current', 'accepted', 'retired']),
    createdAt: time,
    acceptedUntil: time.optional(),
    lastUsedAt: time.optional(),
    usageCount: z.int(),
    lastAddresses: z.array(z.string()),
  })
  .meta({ id: 'APIKeyVersion' });

export const changedVersionSchema = versionSchema.extend(settled).meta({ id: 'ChangedAPIKeyVersion' });

export const versionsSchema = z.strictObject({ items: z.array(versionSchema) }).meta({ id: 'APIKeyVersions' });

const limitStateSchema = z
  .strictObject({
    kind: z.enum(['rate', 'quota']),
    name: z.string(),
    limit: z.int(),
    remaining: z.int(),
    resetSeconds: z.int(),
    windowSeconds: z.int(),
  })
  .meta({ id: 'LimitState' });

const degraded = z
  .literal(true)
  .optional()
  .describe(
    'This node admitted only its share of each rate limit, and that is what remains: the place where all nodes count does not answer, or this node and the one that replaces it run beside each other.',
  );

export const verificationSchema = z
  .discriminatedUnion('valid', [
    z.strictObject({
      valid: z.literal(true),
      keyId: z.string(),
      version: z.int(),
      userId: z.string(),
      tenantId: z.string(),
      name: z.string(),
      environment,
      permissions: z.array(z.string()),
      expiresAt: time.optional(),
      limits: z.array(limitStateSchema),
      degraded,
    }),
    z.strictObject({
      valid: z.literal(false),
      code: z.string().describe('Why not: a denial code.'),
      missing: z.string().optional(),
      retryAfterSeconds: z.int().optional(),
      limits: z.array(limitStateSchema).optional(),
      degraded,
    }),
  ])
  .meta({ id: 'Verification' });

export const usageSchema = z
  .strictObject({ items: z.array(z.strictObject({ from: time, outcomes: z.record(z.string(), z.int()) })) })
  .meta({ id: 'Usage', examples: [{ items: [{ from: '2030-01-31T00:00:00.000Z', outcomes: { valid: 12 } }] }] });

export const tenantSchema = z
  .strictObject({
    id: z.string(),
    etag,
    name: z.string(),
    state: z.enum(['active', 'suspended', 'deleted']),
    audiences: z
      .array(z.string())
      .optional()
      .describe('Audiences that its keys may be given, beside those of the service.'),
    createdAt: time,
  })
  .meta({ id: 'Tenant' });

const quarantinedTenantSchema = z.strictObject({ id: z.string(), createdAt: time, quarantined: z.literal(true) }).meta({
  id: 'QuarantinedTenant',
  description: 'A tenant whose record cannot be read. Its keys are answered with a 503.',
});

export const tenantPageSchema = pageOf(z.union([tenantSchema, quarantinedTenantSchema])).meta({ id: 'TenantPage' });

const eventSchema = z
  .strictObject({
    id: z.string(),
    seq: z.int().optional().describe('Its place in the log; shown to system keys only.'),
    at: time,
    tenantId: z.string(),
    type: z.string().meta({ examples: ['key.created'] }),
    actor: z.strictObject({
      keyId: z.string().nullable(),
      userId: z.string().nullable(),
      address: z.string().nullable(),
      userAgent: z.string().nullable(),
      job: z.string().optional().describe('The job of the service that did it, where it was one.'),
    }),
    subject: z.strictObject({ type: z.string(), id: z.string() }),
    requestId: z.string().nullable(),
    reason: z.string().nullable(),
    before: json.nullable(),
    after: json.nullable(),
    damaged: z
      .literal(true)
      .optional()
      .describe('Its personal part cannot be read: those fields are null, or absent, for that.'),
  })
  .meta({ id: 'Event' });

const damagedEventSchema = eventSchema
  .pick({ id: true, seq: true, at: true, tenantId: true, type: true, subject: true })
  .extend({ damaged: z.literal(true).describe('It is not what was written: nothing of what it says is shown.') })
  .meta({ id: 'DamagedEvent' });

export const eventPageSchema = pageOf(z.union([eventSchema, damagedEventSchema])).meta({ id: 'EventPage' });

export const tokenSchema = z
  .strictObject({
    access_token: z.string(),
    issued_token_type: z.string().optional(),
    token_type: z.literal('Bearer'),
    expires_in: z.int(),
    scope: z.string().optional(),
  })
  .meta({ id: 'Token' });

function pageOf<Item extends z.ZodType>(item: Item) {
  return z.strictObject({
    items: z.array(item),
    nextCursor: z
      .string()
      .nullable()
      .describe('Null on the last page. A page before it may have fewer items than its limit, or none.'),
  });
}
