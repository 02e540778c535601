/**
 * Errors of the token endpoint, in the form of RFC 6749 section 5.2. Every `PantheonError` is mapped to one of its
 * codes.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { errorRefusal, type PantheonError } from 'pantheon-auth';
import { toPantheonError } from './problem.ts';

export type OAuthCode =
  | 'invalid_request'
  | 'invalid_client'
  | 'unsupported_grant_type'
  | 'invalid_scope'
  | 'invalid_target'
  | 'temporarily_unavailable'
  | 'server_error';

export interface OAuthDetails {
  /** The actual cause, for the operator's log. */
  readonly cause?: string;
  readonly keyId?: string | null;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A refused token request. The description is for developers and never repeats input. */
export class OAuthError extends Error {
  readonly code: OAuthCode;
  readonly details: OAuthDetails;

  constructor(code: OAuthCode, description: string, details: OAuthDetails = {}) {
    super(description);
    this.code = code;
    this.details = details;
  }
}

export function answerOAuthError(error: Error, request: FastifyRequest, reply: FastifyReply): void {
  const told =
    error instanceof OAuthError ? error : translate(toPantheonError(error as PantheonError, request), request);
  const { code, message, details } = told;
  const status = details.status ?? (code === 'invalid_client' ? 401 : 400);
  request.outcome = { cause: details.cause ?? code, keyId: details.keyId ?? null };
  const challenge = code === 'invalid_client' ? { 'www-authenticate': 'Basic realm="pantheon-auth"' } : {};
  reply
    .code(status)
    .headers({ ...details.headers, ...challenge, 'cache-control': 'no-store' })
    .type('application/json; charset=utf-8')
    .send(JSON.stringify({ error: code, error_description: message }));
}

/**
 * Chosen by the field of the error. The only client error that the engine throws here is a request for more than the
 * key has.
 */
function translate(error: PantheonError, request: FastifyRequest): OAuthError {
  const { status, headers, body } = errorRefusal(error, request.id);
  const cause = error.code;
  if (status === 503) {
    const retryAfter = { 'retry-after': headers['retry-after'] ?? '1' };
    return new OAuthError('temporarily_unavailable', body.detail, { cause, status, headers: retryAfter });
  }
  if (status >= 500) return new OAuthError('server_error', body.detail, { cause, status });
  if (error.field === 'audience') return new OAuthError('invalid_target', body.detail, { cause });
  if (error.field?.startsWith('permissions')) return new OAuthError('invalid_scope', body.detail, { cause });
  const kept = KEPT_STATUSES.has(status) ? { status } : {};
  return new OAuthError('invalid_request', body.detail, { cause, ...kept });
}

/** These statuses are kept, because RFC 6749 has no codes for a body that is too large or of another type. */
const KEPT_STATUSES: ReadonlySet<number> = new Set([413, 415]);
