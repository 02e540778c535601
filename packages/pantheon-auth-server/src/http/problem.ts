/**
 * Makes the answer to every error: RFC 9457 problem details, or RFC 6749 errors at the OAuth endpoint. Client errors
 * are described in the answer; details of server errors go only to the operator's log.
 */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { type ErrorCode, errorRefusal, PantheonError, type Refusal } from 'pantheon-auth';

/** Maps error codes of Fastify and Node to codes of this service. */
const FOREIGN: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_BAD_URL: 'invalid_request',
  FST_ERR_MAX_PARAM_LENGTH: 'not_found',
  FST_ERR_CTP_BODY_TOO_LARGE: 'payload_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'invalid_request',
};

/** Ends a request with an error of any origin. */
export function answerError(error: FastifyError | PantheonError, request: FastifyRequest, reply: FastifyReply): void {
  sendRefusal(request, reply, errorRefusal(toPantheonError(error, request), request.id));
}

/** Ends a request with a refusal. */
export function sendRefusal(request: FastifyRequest, reply: FastifyReply, refusal: Refusal): void {
  request.outcome = { cause: refusal.cause, keyId: refusal.keyId ?? request.acting?.principal.keyId ?? null };
  reply.code(refusal.status).headers(refusal.headers).send(JSON.stringify(refusal.body));
}

/** The error as a `PantheonError`. An unknown error becomes `internal_error` and is logged. */
export function toPantheonError(error: FastifyError | PantheonError, request: FastifyRequest): PantheonError {
  if (error instanceof PantheonError) {
    if (SERVER_FAULTS.has(error.code) && !logged.has(error)) {
      logged.add(error);
      request.log.error({ err: error, requestId: request.id }, 'a request failed');
    }
    return error;
  }
  const code = error.code === 'FST_ERR_HANDLER_TIMEOUT' ? timeoutCode(request) : FOREIGN[error.code];
  if (code !== undefined) return new PantheonError(code, { cause: error });
  // The client closed the connection while its body or a list was being read. Nobody reads the answer, and it is not a
  // server error.
  const isUnread = request.raw.destroyed && (!request.raw.complete || request.signal.aborted);
  if (isUnread) return new PantheonError('invalid_request', { cause: error });
  request.log.error({ err: error, requestId: request.id }, 'a request failed with an internal error');
  return new PantheonError('internal_error', { cause: error });
}

/** A change that took too long goes on, and may yet be made. */
function timeoutCode({ method }: FastifyRequest): ErrorCode {
  return method === 'GET' || method === 'HEAD' ? 'store_unavailable' : 'outcome_unknown';
}

/** An error that is cached (of a quarantined key) is thrown once per request with that id, and logged once. */
const logged = new WeakSet<PantheonError>();

const SERVER_FAULTS: ReadonlySet<string> = new Set([
  'internal_error',
  'store_unavailable',
  'store_read_only',
  'store_full',
  'store_unusable',
  'outcome_unknown',
  'key_quarantined',
]);
