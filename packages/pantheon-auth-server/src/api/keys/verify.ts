/** The question the whole service is for: may this key act now? An answered question is a 200, also when it is a no. */
import { isIP } from 'node:net';
import { ANY_ENVIRONMENT, COST_MAX, type PantheonAuth, type Verification } from 'pantheon-auth';
import { z } from 'zod';
import { EXAMPLE_KEY } from '../../http/answer-members.ts';
import { type Operation, operation } from '../../http/operation.ts';
import { omitUndefined } from '../../http/parameters.ts';
import { verificationSchema } from './verification-schema.ts';

/** What one key may be asked for at once; a key holds no more. */
const PERMISSIONS_MAX = 256;

const verifyBody = z
  .strictObject({
    key: z.string().describe('The string that was presented. Anything is allowed.'),
    permissions: z
      .array(z.string())
      .max(PERMISSIONS_MAX)
      .nullish()
      .describe('All of these must be covered. At most 256.'),
    ip: z
      .string()
      .refine((text) => isIP(text) !== 0, 'Write an IPv4 or IPv6 address.')
      .nullish()
      .describe('Where the key was presented from. Needed by keys that are bound to addresses.'),
    environment: z.enum(['live', 'test']).nullish().describe('The environment that is accepted. Default live.'),
    anyEnvironment: z.literal(true).nullish().describe('Keys of both environments are accepted.'),
    cost: z
      .int()
      .min(0)
      .max(COST_MAX)
      .nullish()
      .describe('Units to take from every limit; 0 asks without consuming. Default 1.'),
  })
  .meta({ id: 'VerifyKeyInput', examples: [{ key: EXAMPLE_KEY, permissions: ['deploy:run'], ip: '203.0.113.7' }] });

export function verifyOperations(auth: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'POST',
      url: '/v1/keys/verify',
      id: 'verifyKey',
      tag: 'Keys',
      summary: 'Ask whether a key may act now. The RateLimit headers speak of the caller, the body of the key.',
      access: { kind: 'key', action: 'keys.verify' },
      body: verifyBody,
      answer: { status: 200, description: 'Yes or no, with the reason.', schema: verificationSchema },
      codes: ['key_quarantined', 'limiter_unavailable'],
      isHot: true,
      handle: async ({ body, by }) => {
        const { anyEnvironment, ...asked } = omitUndefined(body);
        const both = anyEnvironment === true ? ({ environment: ANY_ENVIRONMENT } as const) : {};
        // The address is the caller's word: what is counted for it is counted for the two together.
        const askedBy = by.principal.keyId;
        return toAnswer(await auth.verify({ ...asked, ...both, tenant: by.tenantId, askedBy }));
      },
    }),
  ];
}

function toAnswer(verification: Verification): unknown {
  const { limits } = verification;
  const degraded = verification.degraded && { degraded: true };
  if (verification.valid) {
    const { keyId, version, userId, tenantId, name, environment, permissions, expiresAt } = verification.key;
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
