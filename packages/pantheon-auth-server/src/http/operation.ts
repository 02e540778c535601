/**
 * A route as a row of a table: address, access, input, answer and error codes. Registration, validation and the OpenAPI
 * file all use this row, so they cannot differ.
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
  /** An OAuth client. The route authenticates it itself. */
  | { readonly kind: 'client' }
  /** The holder of a key string, also of a version whose overlap has ended. The route authenticates it itself. */
  | { readonly kind: 'holder' }
  /** A key, or a token of one, that has the permission of this action. */
  | { readonly kind: 'key'; readonly action: Action }
  /** Any key; the route is about the calling key. `proof`: the key string is required, a token is not enough. */
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
  /** It changes one record that has an ETag, so it accepts `If-Match`. */
  readonly conditional?: true;
  /** Request headers, for the OpenAPI file only: the handler reads them. */
  readonly headers?: z.ZodType;
  /** The engine parses the body; the schema here is for the OpenAPI file only. */
  readonly bodyIsReadByEngine?: boolean;
  /** Default: JSON. */
  readonly bodyKind?: BodyKind;
  /** The body may have up to `BODY_BYTES_MAX`; without this, up to `SMALL_BODY_BYTES_MAX`. */
  readonly hasLists?: true;
  readonly answer: Answer;
  /** Codes of its errors, besides those that every route can return. */
  readonly codes: readonly Code[];
  /**
   * The handler has no timeout: the engine bounds every wait, and a timer would cost too much on this frequent route.
   */
  readonly hasNoTimeout?: true;
  /** Errors in the form of RFC 6749 instead of problem documents. */
  readonly errors?: 'oauth';
  readonly handle: (request: FastifyRequest, reply: FastifyReply) => unknown;
}

export interface Answer {
  readonly status: 200 | 201;
  readonly description: string;
  readonly mediaType?: string;
  readonly schema: z.ZodType;
  /** Additional response headers with their descriptions, for the OpenAPI file only: the handler sets them. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Which record of the answer the `ETag` header is taken from. */
  readonly tagged?: 'itself' | 'apiKey';
}

/** The parsed and validated input of a handler. */
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

/** Codes of requests that could not be read or did not arrive in time. */
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
  const isForKeys = access.kind === 'key' || access.kind === 'self' || access.kind === 'holder';
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
