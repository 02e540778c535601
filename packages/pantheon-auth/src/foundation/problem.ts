/** RFC 9457 problem details for errors and denials, made from the table of codes. */
import { CODES, type Code } from './codes.ts';
import type { PantheonError } from './errors.ts';

/** The body of a refusal, `application/problem+json`. Never contains input of the caller. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: Code;
  readonly detail: string;
  /** The request id. Give it to the operator when you report the problem. */
  readonly instance?: string;
  /** The path of the invalid input field. */
  readonly field?: string;
  /** RateLimit draft 11: the names of the exceeded limits. */
  readonly 'violated-policies'?: readonly string[];
}

export const PROBLEM_MEDIA_TYPE = 'application/problem+json; charset=utf-8';
/** The registered type for spent limits (draft-ietf-httpapi-ratelimit-headers-11 section 8). */
const QUOTA_EXCEEDED_TYPE = 'https://iana.org/assignments/http-problem-types#quota-exceeded';

/** Rate limits and quotas have a registered problem type; other codes have a URN of this service. */
function typeOf(code: Code): string {
  return code === 'rate_limited' || code === 'quota_exceeded'
    ? QUOTA_EXCEEDED_TYPE
    : `urn:pantheon-auth:problem:${code}`;
}

/** Request ids that may be used as `instance`, which is a URI. A client may have chosen the id. */
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

/** The problem of an error. Client errors include their detail; details of server errors are for the operator only. */
export function errorProblem(error: PantheonError, requestId: string | null): Problem {
  const { code, detail, field } = error;
  const isCallers = (CODES[code].status ?? 500) < 500;
  return toProblem(code, { requestId, ...(isCallers ? { detail, field } : {}) });
}
