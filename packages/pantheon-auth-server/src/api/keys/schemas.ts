/** The schemas of answers about keys, for the OpenAPI file and for tests that compare answers with them. */
import { z } from 'zod';
import { EXAMPLE_KEY, environment, etag, json, pageOf, settled, time } from '../../http/answer-members.ts';

const keyRotationSchema = z
  .strictObject({
    overlap: z.string(),
    every: z.string().optional(),
    window: z.string().optional(),
    onMissed: z.enum(['extend', 'expire']).optional(),
    recipientJwk: json.optional().describe('The public key that the next key string is encrypted to.'),
    dueAt: time.optional().describe('When the next rotation is due, or was.'),
    state: z
      .enum(['scheduled', 'due', 'overdue'])
      .optional()
      .describe('overdue: a window has passed in which the holder did not claim the next version.'),
    claimBefore: time
      .optional()
      .describe('The end of the current window, in which the holder can claim the next version.'),
  })
  .meta({
    id: 'KeyRotation',
    description: 'The rotation policy of a key. Without every it has the member overlap only.',
  });

export const apiKeySchema = z
  .strictObject({
    id: z.string(),
    etag,
    tenantId: z.string(),
    userId: z.string(),
    name: z.string(),
    description: z.string().optional(),
    environment,
    hint: z.string().describe('Prefix, environment and id of the key string, without any part of the secret.'),
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
    rotation: keyRotationSchema.optional(),
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
  .meta({ id: 'APIKey', description: 'The record of a key. It never contains a secret or a hash.' });

export const changedKeySchema = apiKeySchema
  .extend(settled)
  .meta({ id: 'ChangedAPIKey', description: 'The record of a key after a change.' });

const actedOnKeySchema = z
  .strictObject({
    keyId: z.string(),
    tenantId: z.string(),
    did: z.array(z.enum(['created', 'rotated', 'secret_replaced', 'updated', 'resumed', 'token_issued'])),
    revoked: z.boolean().describe('Whether this call revoked it. If false, check it.'),
    tokensRevoked: z
      .boolean()
      .describe('Whether this call revoked the tokens issued for it so far: together with the key, or alone.'),
  })
  .meta({ id: 'ActedOnKey', description: 'A key that a revoked key acted on.' });

export const revokedKeySchema = apiKeySchema
  .extend({
    actedOn: z
      .strictObject({
        items: z.array(actedOnKeySchema),
        complete: z
          .boolean()
          .describe('False when there are more, or the time of one call is over: handle these, then repeat the call.'),
      })
      .optional()
      .describe('With cascade: keys that were not revoked yet and that the revoked keys had acted on.'),
    ...settled,
  })
  .meta({ id: 'RevokedAPIKey', description: 'The record of a key that was revoked.' });

const quarantinedKeySchema = z.strictObject({ id: z.string(), createdAt: time, quarantined: z.literal(true) }).meta({
  id: 'QuarantinedKey',
  description:
    'A key whose record is damaged and cannot be read. Requests with it are answered with 503 until the record is repaired.',
});

export const keyPageSchema = pageOf(z.union([apiKeySchema, quarantinedKeySchema])).meta({ id: 'APIKeyPage' });

const keyString = z
  .string()
  .describe('The key string. Shown once: it is not stored.')
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
