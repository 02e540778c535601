/** The responses of an operation in the OpenAPI file: the success, and every error status with its codes. */
import { CODES, type Code } from 'pantheon-auth';
import type { JsonSchema, SchemaCollector } from './openapi-schemas.ts';
import { codesOf, type Operation, TRANSPORT_CODES } from './operation.ts';
import { oauthErrorSchema, problemSchema } from './problem-schema.ts';

type Responses = Readonly<Record<string, JsonSchema>>;

export function successOf({ answer, access }: Operation, schemas: SchemaCollector): Responses {
  const { status, description, mediaType = 'application/json', schema, headers = {}, tagged } = answer;
  const told = { ...headers, ...(tagged !== undefined && TAG_HEADER), ...(access.kind !== 'public' && CALLER_HEADERS) };
  const content = { [mediaType]: { schema: schemas.answer(schema) } };
  return { [status]: { description, ...headersOf(told), content } };
}

export function refusalsOf(operation: Operation, schemas: SchemaCollector): Responses {
  return operation.errors === 'oauth' ? oauthRefusals(schemas) : problems(codesOf(operation), schemas);
}

const RETRY_AFTER = { 'Retry-After': 'Seconds to wait before the next attempt.' } as const;
const CHALLENGE = { 'WWW-Authenticate': 'How to authenticate (RFC 6750, RFC 7617).' } as const;
const LIMIT_HEADERS = {
  RateLimit: 'What remains of the limits of the calling key. Absent when the key has no limits.',
  'RateLimit-Policy': 'The limits of the calling key. Absent when the key has no limits.',
} as const;

/** On answers to a key. */
const CALLER_HEADERS = {
  ...LIMIT_HEADERS,
  'Pantheon-Key-Expires':
    'When the calling key expires (seconds since 1970 after @), while its expiry is announced. Absent otherwise.',
  'Pantheon-Rotation':
    'What the holder of the calling key has to do: `due` or `overdue` (claim the next version) or `superseded` (change to the current version), each with `version` and `before` (seconds since 1970 after @). Absent when there is nothing to do.',
} as const;

const TAG_HEADER = {
  ETag: 'Changes with the settings and the state of the record; for If-Match. It does not change with usage (usageCount, lastUsedAt), so do not use it for If-None-Match.',
} as const;

/** By status. These headers are always sent, except those about limits. */
const HEADERS: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  401: CHALLENGE,
  429: { ...RETRY_AFTER, ...LIMIT_HEADERS },
  503: RETRY_AFTER,
};

function problems(codes: readonly Code[], schemas: SchemaCollector): Responses {
  const byStatus = new Map<number, Code[]>();
  for (const code of codes) {
    const status = CODES[code].status ?? 500;
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const responses = [...byStatus]
    .sort(([a], [b]) => a - b)
    .map(([status, group]) => {
      const description = group.map((code) => `\`${code}\`: ${CODES[code].title}`).join('\n\n');
      const content = { 'application/problem+json': { schema: schemas.answer(problemSchema) } };
      return [status, { description, ...headersOf(HEADERS[status]), content }] as const;
    });
  return Object.fromEntries(responses);
}

const OAUTH_REFUSALS = [
  [400, '`invalid_request`, `invalid_target`, `invalid_scope` or `unsupported_grant_type`.'],
  [401, '`invalid_client`. The answer does not tell the cause.'],
  [413, '`invalid_request`: the body is too large.'],
  [415, '`invalid_request`: the body is not a form.'],
  [429, '`temporarily_unavailable`: a limit of the key is exceeded. See Retry-After.'],
  [500, '`server_error`.'],
  [503, '`temporarily_unavailable`: keep the key and try again. See Retry-After.'],
] as const;

function oauthRefusals(schemas: SchemaCollector): Responses {
  const content = { 'application/json': { schema: schemas.answer(oauthErrorSchema) } };
  const refusals = OAUTH_REFUSALS.map(
    ([status, description]) => [status, { description, ...headersOf(HEADERS[status]), content }] as const,
  );
  // Requests that reach no endpoint are answered with a problem document, as everywhere else.
  return { ...Object.fromEntries(refusals), ...problems(TRANSPORT_CODES, schemas) };
}

function headersOf(told: Readonly<Record<string, string>> = {}): JsonSchema {
  const headers = Object.entries(told).map(([name, description]) => {
    const type = name === 'Retry-After' ? { type: 'integer', minimum: 0 } : { type: 'string' };
    return [name, { description, schema: type }] as const;
  });
  return headers.length === 0 ? {} : { headers: Object.fromEntries(headers) };
}
