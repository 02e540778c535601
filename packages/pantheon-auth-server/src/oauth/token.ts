/**
 * The token endpoint: exchanges a key for a short-lived token. The client id is the id of a key, the client secret its
 * key string.
 */
import {
  ANY_ENVIRONMENT,
  ANY_TENANT,
  AUDIENCES_MAX,
  type PantheonAuth,
  rateLimitHeaders,
  type Verification,
} from 'pantheon-auth';
import { z } from 'zod';
import { EXAMPLE_KEY } from '../http/answer-members.ts';
import type { Form } from '../http/bodies.ts';
import { addressOf, authorizationOf } from '../http/caller.ts';
import { OAuthError } from '../http/oauth-error.ts';
import type { Operation } from '../http/operation.ts';
import { tokenSchema } from './schemas.ts';
import {
  API_KEY_TYPE,
  BAD_SUBJECT,
  GRANT_TYPES,
  readTokenRequest,
  TOKEN_EXCHANGE,
  type TokenRequest,
} from './token-request.ts';

/**
 * For the OpenAPI file only: the form is read parameter by parameter, and unknown parameters are ignored (RFC 6749
 * section 3.2).
 */
const tokenBody = z
  .object({
    grant_type: z
      .enum(GRANT_TYPES as [string, ...string[]])
      .describe('The grant: client credentials or token exchange.'),
    client_id: z.string().optional().describe('The id of the key.'),
    client_secret: z.string().optional().describe('The key string.'),
    subject_token: z.string().optional().describe('Token exchange: the key string.'),
    subject_token_type: z
      .literal(API_KEY_TYPE)
      .optional()
      .describe('Token exchange: says that the subject token is a key string.'),
    requested_token_type: z
      .string()
      .optional()
      .describe('Token exchange: the URN of an access token (default) or of a JWT. Both give the same token.'),
    audience: z
      .array(z.string())
      .optional()
      .describe(
        `Audiences of the token, out of those that the key allows. At most ${AUDIENCES_MAX}. Default: the first one.`,
      ),
    resource: z
      .array(z.string())
      .optional()
      .describe(
        `Audiences as absolute URIs (RFC 8707). The maximum of ${AUDIENCES_MAX} is for audience and resource together.`,
      ),
    scope: z
      .string()
      .optional()
      .describe(
        'Permissions, separated by spaces. Default: all permissions of the key except those under pantheon:, which a token has only if they are named here.',
      ),
    ttl: z
      .int()
      .min(1)
      .optional()
      .describe('Lifetime in seconds, at most what the policy of the key allows. An extension of OAuth.'),
  })
  .meta({
    id: 'TokenRequest',
    examples: [{ grant_type: TOKEN_EXCHANGE, subject_token_type: API_KEY_TYPE, subject_token: EXAMPLE_KEY }],
  });

const MILLISECONDS = 1_000;

export function tokenOperations(auth: PantheonAuth): readonly Operation[] {
  return [
    {
      method: 'POST',
      url: '/oauth2/token',
      id: 'issueToken',
      tag: 'Tokens',
      summary: 'Exchange a key for a token: client credentials (RFC 6749) or token exchange (RFC 8693).',
      access: { kind: 'client' },
      body: tokenBody,
      bodyIsReadByEngine: true,
      bodyKind: 'form',
      answer: { status: 200, description: 'The token.', schema: tokenSchema },
      codes: [],
      errors: 'oauth',
      handle: async (request, reply) => {
        // A request without a body is an empty form.
        const form = (request.body ?? new Map()) as Form;
        const wanted = readTokenRequest(form, authorizationOf(request));
        const { key, tokenOptions } = wanted;
        const from = { ip: addressOf(request), tenant: ANY_TENANT, environment: ANY_ENVIRONMENT } as const;
        if (wanted.isForAnother) throw badSubject(wanted, await auth.verify({ key, ...from }));
        const exchange = await auth.tokens.exchange({ key, ...from, ...tokenOptions });
        if (!exchange.issued) throw refused(wanted, exchange.verification);
        const { token, verification } = exchange;
        request.outcome = { cause: null, keyId: token.keyId };
        reply.headers({ ...rateLimitHeaders(verification.limits, verification.degraded), pragma: 'no-cache' });
        return {
          access_token: token.token,
          ...(wanted.issuedTokenType === null ? {} : { issued_token_type: wanted.issuedTokenType }),
          token_type: 'Bearer',
          expires_in: Math.floor((token.expiresAt - token.issuedAt) / MILLISECONDS),
          ...(token.permissions.length === 0 ? {} : { scope: token.permissions.join(' ') }),
        };
      },
    },
  ];
}

/**
 * An invalid subject token of an authenticated client is a bad request, not a failed authentication (RFC 8693 section
 * 2.2.2).
 */
function badSubject(wanted: TokenRequest, client: Verification): OAuthError {
  if (!client.valid) return refused(wanted, client);
  return new OAuthError(BAD_SUBJECT.code, BAD_SUBJECT.description, {
    cause: 'subject_is_not_the_client',
    keyId: client.key.keyId,
  });
}

/**
 * A denial by a limit is reported as one, so that clients wait. RFC 6749 has no code for it at this endpoint; the
 * closest is `temporarily_unavailable`, with status 429. Every other denial gets the same answer, whatever its cause.
 */
function refused(wanted: TokenRequest, refusedUse: Extract<Verification, { valid: false }>): OAuthError {
  const { denial, keyId, limits, degraded, retryAfterSeconds } = refusedUse;
  const cause = denial.code;
  if (cause === 'rate_limited' || cause === 'quota_exceeded') {
    const headers = { ...rateLimitHeaders(limits, degraded), 'retry-after': String(retryAfterSeconds ?? 1) };
    return new OAuthError('temporarily_unavailable', 'Too many requests.', { cause, keyId, status: 429, headers });
  }
  return new OAuthError(wanted.refusal.code, wanted.refusal.description, { cause, keyId });
}
