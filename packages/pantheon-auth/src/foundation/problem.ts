/** How an error or a denial is told over HTTP: RFC 9457 problem details, made from the table of codes. */
import { CODES, type Code } from './codes.ts';
import type { PantheonError } from './errors.ts';

/** The body of a refusal, `application/problem+json`. Never holds what the caller sent. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: Code;
  readonly detail: string;
  /** The request id: what to tell the operator. */
  readonly instance?: string;
  /** The input at fault. */
  readonly field?: string;
  /** RateLimit draft 11: the policies that stood in the way. */
  readonly 'violated-policies'?: readonly string[];
}

export const PROBLEM_MEDIA_TYPE = 'application/problem+json; charset=utf-8';
/** The registered type for spent limits (draft-ietf-httpapi-ratelimit-headers-11 section 8). */
const QUOTA_EXCEEDED_TYPE = 'https://iana.org/assignments/http-problem-types#quota-exceeded';

/** Codes whose type everybody's clients know; the others are ours. */
function typeOf(code: Code): string {
  return code === 'rate_limited' || code === 'quota_exceeded'
    ? QUOTA_EXCEEDED_TYPE
    : `urn:pantheon-auth:problem:${code}`;
}

/** What a request id may hold to be told. A client may have chosen it, and `instance` is a URI. */
const REQUEST_ID = /^[\w.:~-]{1,128}$/;

export interface ProblemDetails {
  readonly detail?: string | null;
  readonly field?: string | null;
  readonly requestId?: string | null;
  readonly violated?: readonly string[];
}

/** The problem of a code. */
export function toProblem(code: Code, details: ProblemDetails = {}): Problem {
  const { title, status, advice } = CODES[code];
  const { detail, field, requestId, violated } = details;
  return {
    type: typeOf(code),
    title,
    status: status ?? 500,
    code,
    detail: detail ?? advice,
    ...(requestId == null || !REQUEST_ID.test(requestId) ? {} : { instance: `urn:pantheon-auth:request:${requestId}` }),
    ...(field == null ? {} : { field }),
    ...(violated === undefined ? {} : { 'violated-policies': violated }),
  };
}

/**
 * The problem of an error. What is wrong with the caller's request is told in full; what is wrong with us is told to the
 * operator only.
 */
export function errorProblem(error: PantheonError, requestId: string | null): Problem {
  const { code, detail, field } = error;
  const isCallers = (CODES[code].status ?? 500) < 500;
  return toProblem(code, { requestId, ...(isCallers ? { detail, field } : {}) });
}
