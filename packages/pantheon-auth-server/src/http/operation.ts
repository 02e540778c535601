/**
 * A route as a row of a table: its address, who may call it, what it takes, what it answers and which codes it can end
 * with. Registering, checking and documenting a route all read the same row, so that none of them can differ.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Action, Code } from 'pantheon-auth';
import type { z } from 'zod';
import type { BodyKind } from './bodies.ts';
import { type RequestContext, requestContextOf } from './caller.ts';

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

/** Who may call it. */
export type Access =
  | { readonly kind: 'public' }
  /** By an OAuth client, which the route itself authenticates. */
  | { readonly kind: 'client' }
  /** By a key, or a token of one, with the permission of this action. */
  | { readonly kind: 'key'; readonly action: Action }
  /** By any key, about itself. `proof`: only the key string will do, not a token made from it. */
  | { readonly kind: 'self'; readonly proof: boolean };

export interface Operation {
  readonly method: Method;
  /** As Fastify writes it: `/v1/keys/:id`. */
  readonly url: string;
  /** `operationId` of the OpenAPI file: the name of the call in generated clients. */
  readonly id: string;
  readonly tag: string;
  readonly summary: string;
  readonly access: Access;
  readonly params?: z.ZodType;
  readonly query?: z.ZodType;
  readonly body?: z.ZodType;
  /** It changes one record that has an entity tag, and so honours `If-Match`. */
  readonly conditional?: true;
  /** Headers that mean something here. Only documented: the handler reads them. */
  readonly headers?: z.ZodType;
  /** The engine reads the body itself: here it is only documented. */
  readonly bodyIsReadByEngine?: boolean;
  /** Default: JSON. */
  readonly bodyKind?: BodyKind;
  readonly answer: Answer;
  /** What it can end with, besides what every route can. */
  readonly codes: readonly Code[];
  /** The engine bounds every wait of it, and it is called too often to pay for a timer of its own. */
  readonly isHot?: true;
  /** OAuth wants its errors in the form of RFC 6749. */
  readonly errors?: 'oauth';
  readonly handle: (request: FastifyRequest, reply: FastifyReply) => unknown;
}

export interface Answer {
  readonly status: 200 | 201;
  readonly description: string;
  readonly mediaType?: string;
  readonly schema: z.ZodType;
  /** Headers besides those of every answer, with what each tells. Only documented: the handler sets them. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The record whose entity tag the answer has as its `ETag`. */
  readonly tagged?: 'itself' | 'apiKey';
}

/** What a handler is given: only what the schemas have let through. */
export interface Call<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  readonly by: RequestContext;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

type Output<Schema> = Schema extends z.ZodType ? z.output<Schema> : undefined;

interface Typed<Params, Query, Body> extends Omit<Operation, 'handle' | 'params' | 'query' | 'body' | 'access'> {
  readonly access: Extract<Access, { kind: 'key' | 'self' }>;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  readonly handle: (call: Call<Output<Params>, Output<Query>, Output<Body>>) => unknown;
}

/** An operation for keys, its handler typed by its schemas. */
export function operation<
  Params extends z.ZodType | undefined = undefined,
  Query extends z.ZodType | undefined = undefined,
  Body extends z.ZodType | undefined = undefined,
>(typed: Typed<Params, Query, Body>): Operation {
  const { handle, params, query, body, ...rest } = typed;
  return {
    ...rest,
    ...(params !== undefined && { params }),
    ...(query !== undefined && { query }),
    ...(body !== undefined && { body }),
    handle: (request, reply) =>
      handle({
        // Parsed by the schemas whose outputs these types are.
        params: request.params as Output<Params>,
        query: request.query as Output<Query>,
        body: request.body as Output<Body>,
        by: requestContextOf(request),
        request,
        reply,
      }),
  };
}

/** Codes that any call by a key can end with. */
export const KEY_CODES: readonly Code[] = [
  'missing_credential',
  'invalid_key',
  'revoked',
  'expired',
  'version_retired',
  'ambiguous_credential',
  'suspended',
  'not_yet_active',
  'environment_mismatch',
  'ip_not_allowed',
  'rate_limited',
  'quota_exceeded',
  'not_found',
];

/** Codes of what never became a request: it could not be read, or did not come in time. */
export const TRANSPORT_CODES: readonly Code[] = ['request_timeout', 'expectation_failed', 'headers_too_large'];

/** Codes that any request can end with. */
export const COMMON_CODES: readonly Code[] = [
  ...TRANSPORT_CODES,
  'credential_in_url',
  'invalid_request',
  'internal_error',
  'store_unavailable',
  'shutting_down',
];

/** Codes of requests with a body. */
export const BODY_CODES: readonly Code[] = [
  'invalid_json',
  'credential_in_text',
  'payload_too_large',
  'unsupported_media_type',
];

/** Codes of changes. */
export const CHANGE_CODES: readonly Code[] = [
  'conflict',
  'overloaded',
  'store_read_only',
  'store_full',
  'outcome_unknown',
];

/** Every code that the operation can end with. */
export function codesOf({ access, body, codes, conditional }: Operation): readonly Code[] {
  const isForKeys = access.kind === 'key' || access.kind === 'self';
  const all = [
    ...COMMON_CODES,
    ...(isForKeys ? KEY_CODES : []),
    ...(access.kind === 'key' ? (['insufficient_permissions'] as const) : []),
    ...(body === undefined ? [] : BODY_CODES),
    ...(conditional === true ? (['precondition_failed'] as const) : []),
    ...codes,
  ];
  return [...new Set(all)];
}
