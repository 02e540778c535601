/**
 * The OpenAPI file, made from the route table, so that it documents exactly the registered routes. Client generators
 * read it, so each operation has one body, one way to authenticate and every status that it can return.
 */
import { setImmediate } from 'node:timers/promises';
import { ACTIONS } from 'pantheon-auth';
import type { z } from 'zod';
import type { Config } from '../settings/config.ts';
import { refusalsOf, successOf } from './openapi-responses.ts';
import { type JsonSchema, SchemaCollector } from './openapi-schemas.ts';
import type { Access, Operation } from './operation.ts';
import { ifMatchHeader, tenantHeader } from './parameters.ts';

/** The version of the HTTP API, not of the package. */
const API_VERSION = '1';

const DESCRIPTION = [
  'API keys and tokens made from them.',
  'New members may be added to answers: ignore members that you do not know. A request with a member that is not documented here is refused.',
  'Every error is a problem document (RFC 9457) with a stable `code`; the token endpoint answers as RFC 6749 says.',
].join('\n\n');

const TAGS = [
  ['Keys', 'Create, verify and manage API keys.'],
  ['Versions', 'Rotation: a key has several versions, each with its own secret.'],
  ['Usage', 'How often keys were used.'],
  ['Self', 'Calls of a key about itself.'],
  ['Tokens', 'Short-lived tokens made from keys.'],
  ['Tenants', 'Tenants. Each has its own keys and cannot see those of others.'],
  ['Signing keys', 'The keys that sign tokens.'],
  ['Events', 'The audit trail.'],
  ['Discovery', 'Metadata and public keys for clients and verifiers.'],
  ['Health', 'For load balancers and orchestrators.'],
] as const;

/** Two schemes, of which an operation names one: a generated client sends every credential that an operation names. */
const SECURITY_SCHEMES = {
  bearer: {
    type: 'http',
    scheme: 'bearer',
    description:
      'An API key, or a token made from one. It may be sent in `X-API-Key` instead. The same credential in both headers is accepted.',
  },
  client: {
    type: 'http',
    scheme: 'basic',
    description: 'User name: the id of a key. Password: the key string. Both may be sent as form parameters instead.',
  },
} as const;

export type OpenApiDocument = Readonly<Record<string, unknown>>;

/** Made in many turns of the event loop: at once it takes longer than other requests may be kept waiting. */
export async function openApiDocument(
  operations: readonly Operation[],
  { publicUrl }: Pick<Config, 'publicUrl'>,
): Promise<OpenApiDocument> {
  const schemas = new SchemaCollector();
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of operations) {
    const path = toTemplate(operation.url);
    paths[path] = { ...paths[path], [operation.method.toLowerCase()]: documented(operation, schemas) };
    await setImmediate();
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

/**
 * A client of the token endpoint may also authenticate in the form, for which OpenAPI has no security scheme: hence the
 * empty alternative.
 */
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

/** Converts `/v1/keys/:id` of Fastify to `/v1/keys/{id}` of OpenAPI. In Fastify `::` is a literal colon. */
export function toTemplate(url: string): string {
  return url.replace(/::|:([a-z]+)/gi, (_, name: string | undefined) => (name === undefined ? ':' : `{${name}}`));
}
