/** `POST /v1/keys/verify`: whether a key may act now. The status is 200 also for a denial: the client reads `valid`. */
import { isIP } from 'node:net';
import {
  ANY_ENVIRONMENT,
  type Clock,
  COST_MAX,
  type PantheonAuth,
  PERMISSIONS_MAX,
  type Verification,
} from 'pantheon-auth';
import { z } from 'zod';
import { EXAMPLE_KEY } from '../../http/answer-members.ts';
import { confirmLate } from '../../http/caller.ts';
import { type Operation, operation } from '../../http/operation.ts';
import { omitUndefined } from '../../http/parameters.ts';
import { verificationSchema } from './verification-schema.ts';

const verifyBody = z
  .strictObject({
    key: z.string().describe('The string that a client presented. Any text is allowed.'),
    permissions: z
      .array(z.string())
      // A key has no more than that.
      .max(PERMISSIONS_MAX)
      .nullish()
      .describe(`The key must have all of these permissions. At most ${PERMISSIONS_MAX}.`),
    ip: z
      .string()
      .refine((text) => isIP(text) !== 0, 'Write an IPv4 or IPv6 address.')
      .nullish()
      .describe('The IP address of the client. Without it a key with an IP allowlist is denied.'),
    environment: z.enum(['live', 'test']).nullish().describe('The environment whose keys are accepted. Default: live.'),
    anyEnvironment: z.literal(true).nullish().describe('Accept keys of both environments.'),
    cost: z
      .int()
      .min(0)
      .max(COST_MAX)
      .nullish()
      .describe('Units to take from every limit; 0 checks the limits without consuming. Default: 1.'),
  })
  .meta({ id: 'VerifyKeyInput', examples: [{ key: EXAMPLE_KEY, permissions: ['deploy:run'], ip: '203.0.113.7' }] });

export function verifyOperations(auth: PantheonAuth, clock: Clock): readonly Operation[] {
  return [
    operation({
      method: 'POST',
      url: '/v1/keys/verify',
      id: 'verifyKey',
      tag: 'Keys',
      summary:
        'Verify a key. The status is 200 also for a denial: read `valid`. RateLimit headers are about the caller, `limits` in the body about the key.',
      access: { kind: 'key', action: 'keys.verify' },
      body: verifyBody,
      hasLists: true,
      answer: {
        status: 200,
        description: 'The result: `valid`, and the code of the denial if it is false.',
        schema: verificationSchema,
      },
      codes: ['key_quarantined', 'limiter_unavailable'],
      hasNoTimeout: true,
      handle: async ({ body, by }) => {
        const { anyEnvironment, ...asked } = omitUndefined(body);
        const both = anyEnvironment === true ? ({ environment: ANY_ENVIRONMENT } as const) : {};
        // The caller could send any address, so failures are counted for the pair of calling key and address.
        const askedBy = by.principal.keyId;
        const verification = await auth.verify({ ...asked, ...both, tenant: by.tenantId, askedBy });
        // The key, or its limits, may have been waited for.
        const confirming = confirmLate(auth, 'keys.verify', by, clock);
        if (confirming !== null) await confirming;
        return toAnswer(verification);
      },
    }),
  ];
}

function toAnswer(verification: Verification): unknown {
  const { limits } = verification;
  const degraded = verification.degraded && { degraded: true };
  if (verification.valid) {
    const { keyId, version, userId, tenantId, name, environment, permissions, expiresAt, rotation } = verification.key;
    const expiry = expiresAt === null ? {} : { expiresAt: new Date(expiresAt) };
    return {
      valid: true,
      keyId,
      version,
      userId,
      tenantId,
      name,
      environment,
      permissions,
      ...expiry,
      ...(rotation !== null && { rotation: { ...rotation, before: new Date(rotation.before) } }),
      limits,
      ...degraded,
    };
  }
  const { denial, retryAfterSeconds } = verification;
  return {
    valid: false,
    code: denial.code,
    ...('missing' in denial && { missing: denial.missing }),
    ...(retryAfterSeconds === null ? {} : { retryAfterSeconds }),
    ...(limits.length === 0 ? {} : { limits }),
    ...degraded,
  };
}
