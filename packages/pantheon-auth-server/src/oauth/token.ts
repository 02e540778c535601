/** The token endpoint: a key becomes a short-lived token. The client id is the id of a key, the client secret its string. */
import { ANY_ENVIRONMENT, ANY_TENANT, type PantheonAuth, rateLimitHeaders, type Verification } from 'pantheon-auth';
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

/** Only documented: a form is read parameter by parameter, and what is unknown is ignored (RFC 6749 section 3.2). */
const tokenBody = z
  .object({
    grant_type: z.enum(GRANT_TYPES as [string, ...string[]]).describe('By which of the two the token is asked for.'),
    client_id: z.string().optional().describe('The id of the key.'),
    client_secret: z.string().optional().describe('The key string.'),
    subject_token: z.string().optional().describe('Token exchange: the key string.'),
    subject_token_type: z
      .literal(API_KEY_TYPE)
      .optional()
      .describe('Token exchange: that the subject is a key string.'),
    requested_token_type: z
      .string()
      .optional()
      .describe('Token exchange: the URN of an access token (the default) or of a JWT, which are the same here.'),
    audience: z
      .array(z.string())
      .optional()
      .describe(
        'Whom the token is for, among those that the key allows. At most 16. Default: the first that it allows.',
      ),
    resource: z
      .array(z.string())
      .optional()
      .describe('The same as absolute URIs (RFC 8707), counted together with audience.'),
    scope: z
      .string()
      .optional()
      .describe(
        'Permissions, separated by spaces. Default: all of the key, but those under pantheon:, which are asked for by name.',
      ),
    ttl: z.int().min(1).optional().describe('An extension: seconds, at most what the policy of the key says.'),
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
        // Without a body there is no form.
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

/** A bad subject token of a client that is proved is its mistake, and not a doubt about it (RFC 8693 section 2.2.2). */
function badSubject(wanted: TokenRequest, client: Verification): OAuthError {
  if (!client.valid) return refused(wanted, client);
  return new OAuthError(BAD_SUBJECT.code, BAD_SUBJECT.description, {
    cause: 'subject_is_not_the_client',
    keyId: client.key.keyId,
  });
}

/**
 * Limits are told as what they are, so that clients wait. RFC 6749 has no code for them at this endpoint: the closest is
 * `temporarily_unavailable`, and the status says the rest. All else looks the same whatever its cause.
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
