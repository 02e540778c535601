/**
 * The OpenAPI file, made from the route table: what is documented is what is registered. Written for the programs that
 * make clients from it, so each call has one body, one way to authenticate and every status that it can end with.
 */
import { ACTIONS } from 'pantheon-auth';
import type { z } from 'zod';
import type { Config } from '../settings/config.ts';
import { refusalsOf, successOf } from './openapi-responses.ts';
import { type JsonSchema, SchemaCollector } from './openapi-schemas.ts';
import type { Access, Operation } from './operation.ts';
import { ifMatchHeader, tenantHeader } from './parameters.ts';

/** The version of the wire, not of the package. */
const API_VERSION = '1';

const DESCRIPTION = [
  'API keys and the tokens that come from them.',
  'Answers may gain members: ignore the ones that you do not know. Requests may not have members that are not named here.',
  'Every error is a problem document (RFC 9457) with a stable `code`; the token endpoint answers as RFC 6749 says.',
].join('\n\n');

const TAGS = [
  ['Keys', 'Create, verify and manage API keys.'],
  ['Versions', 'Rotation: one key, many secrets.'],
  ['Usage', 'How often keys were used.'],
  ['Self', 'What a key may do about itself.'],
  ['Tokens', 'Short-lived tokens made from keys.'],
  ['Tenants', 'The isolation boundary.'],
  ['Events', 'The audit trail.'],
  ['Discovery', 'What others need to work with this service.'],
  ['Health', 'For load balancers and orchestrators.'],
] as const;

/** One for each way to call, because a generated client sends all that an operation names. */
const SECURITY_SCHEMES = {
  bearer: {
    type: 'http',
    scheme: 'bearer',
    description:
      'An API key, or a token made from one. It may be sent in `X-API-Key` instead; the same one in both headers counts once.',
  },
  client: {
    type: 'http',
    scheme: 'basic',
    description: 'The id of a key and its string. Both may be sent in the form instead.',
  },
} as const;

export type OpenApiDocument = Readonly<Record<string, unknown>>;

export function openApiDocument(operations: readonly Operation[], { publicUrl }: Pick<Config, 'publicUrl'>) {
  const schemas = new SchemaCollector();
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of operations) {
    const path = toTemplate(operation.url);
    paths[path] = { ...paths[path], [operation.method.toLowerCase()]: documented(operation, schemas) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Pantheon Auth',
      version: API_VERSION,
      description: DESCRIPTION,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: publicUrl }],
    tags: TAGS.map(([name, description]) => ({ name, description })),
    paths,
    components: { securitySchemes: SECURITY_SCHEMES, schemas: schemas.components() },
  } satisfies OpenApiDocument;
}

function documented(operation: Operation, schemas: SchemaCollector): JsonSchema {
  const { id, tag, summary, access, body } = operation;
  const parameters = parametersOf(operation, schemas);
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(access.kind === 'key' && { description: `Needs the permission \`${ACTIONS[access.action]}\`.` }),
    security: securityOf(access),
    ...(parameters.length > 0 && { parameters }),
    ...(body !== undefined && { requestBody: requestBodyOf(operation, body, schemas) }),
    responses: { ...successOf(operation, schemas), ...refusalsOf(operation, schemas) },
  };
}

/** A client of the token endpoint may be named in the form, which is no security scheme of OpenAPI. */
function securityOf({ kind }: Access): readonly Readonly<Record<string, readonly string[]>>[] {
  if (kind === 'public') return [];
  return kind === 'client' ? [{ client: [] }, {}] : [{ bearer: [] }];
}

function requestBodyOf({ bodyKind }: Operation, body: z.ZodType, schemas: SchemaCollector): JsonSchema {
  const type = bodyKind === 'form' ? 'application/x-www-form-urlencoded' : 'application/json';
  return {
    required: !body.isOptional(),
    content: { [type]: { schema: schemas.request(body) } },
  };
}

function parametersOf(
  { params, query, headers, access, conditional }: Operation,
  schemas: SchemaCollector,
): readonly JsonSchema[] {
  const parts = [
    ['path', params],
    ['query', query],
    ['header', access.kind === 'key' ? tenantHeader : undefined],
    ['header', headers],
    ['header', conditional === true ? ifMatchHeader : undefined],
  ] as const;
  return parts.flatMap(([place, schema]) => (schema === undefined ? [] : parametersIn(place, schemas.request(schema))));
}

function parametersIn(place: 'path' | 'query' | 'header', schema: JsonSchema): readonly JsonSchema[] {
  const required = new Set(schema['required'] as readonly string[] | undefined);
  return Object.entries(schema['properties'] as Readonly<Record<string, JsonSchema>>).map(([name, one]) => {
    const { description, ...rest } = one;
    return {
      name,
      in: place,
      required: required.has(name),
      ...(description !== undefined && { description }),
      schema: rest,
    };
  });
}

/** As OpenAPI writes it: `/v1/keys/{id}`. Fastify writes a colon that begins no parameter twice. */
export function toTemplate(url: string): string {
  return url.replace(/::|:([a-z]+)/gi, (_, name: string | undefined) => (name === undefined ? ':' : `{${name}}`));
}
