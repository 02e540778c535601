/** The OpenAPI file, made from the route table: what is documented is what is registered. */
import swagger from '@fastify/swagger';
import type { FastifyInstance, FastifySchema } from 'fastify';
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { ACTIONS, CODES, type Code } from 'pantheon-auth';
import { z } from 'zod';
import type { Config } from './config.ts';
import { type Access, codesOf, type Operation } from './operation.ts';
import { oauthErrorSchema, problemSchema } from './schemas.ts';

const PROBLEM = 'application/problem+json';

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

const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', description: 'An API key, or a token made from one.' },
  apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key', description: 'The same, in another header.' },
  client: { type: 'http', scheme: 'basic', description: 'The id of a key and its string.' },
} as const;

const tenantHeader = z.object({
  'Pantheon-Tenant': z
    .string()
    .optional()
    .describe('For keys of the system tenant: the tenant to act in. Default: default.'),
});

export async function documentApi(app: FastifyInstance, config: Config): Promise<void> {
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Pantheon Auth',
        version: API_VERSION,
        description: 'API keys and the tokens that come from them.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: config.publicUrl }],
      tags: TAGS.map(([name, description]) => ({ name, description })),
      components: { securitySchemes: SECURITY_SCHEMES },
    },
    transform: createJsonSchemaTransform({}),
    transformObject: createJsonSchemaTransformObject({}),
  });
  if (!config.docs) return;
  app.get('/openapi.json', { schema: { hide: true } as FastifySchema }, async (_request, reply) => {
    reply.headers({ 'access-control-allow-origin': '*', 'cache-control': 'public, max-age=300' });
    return app.swagger();
  });
}

/** The version of the wire, not of the package. */
const API_VERSION = '1';

/** What Fastify and the OpenAPI file are told of a route. */
export function toRouteSchema(operation: Operation): FastifySchema {
  const { id, tag, summary, access, params, query, body, bodyKind } = operation;
  const headers = headersOf(operation);
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(access.kind === 'key' && { description: `Needs the permission \`${ACTIONS[access.action]}\`.` }),
    security: securityOf(access),
    ...(params !== undefined && { params }),
    querystring: query ?? z.strictObject({}),
    ...(body !== undefined && {
      body,
      consumes: [bodyKind === 'form' ? 'application/x-www-form-urlencoded' : 'application/json'],
    }),
    ...(headers !== undefined && { headers }),
    response: responsesOf(operation),
  } as FastifySchema;
}

function headersOf({ access, headers }: Operation): z.ZodType | undefined {
  if (access.kind !== 'key') return headers;
  return headers instanceof z.ZodObject ? tenantHeader.extend(headers.shape) : tenantHeader;
}

function securityOf({ kind }: Access): readonly Record<string, readonly string[]>[] {
  if (kind === 'public') return [];
  return kind === 'client' ? [{ client: [] }, {}] : [{ bearer: [] }, { apiKey: [] }];
}

function responsesOf(operation: Operation): Record<string, unknown> {
  const { answer, errors } = operation;
  const success = { [answer.mediaType ?? 'application/json']: { schema: answer.schema } };
  const refusals = errors === 'oauth' ? OAUTH_REFUSALS : problems(codesOf(operation));
  return { [answer.status]: { description: answer.description, content: success }, ...refusals };
}

function problems(codes: readonly Code[]): Record<string, unknown> {
  const byStatus = new Map<number, Code[]>();
  for (const code of codes) {
    const status = CODES[code].status ?? 500;
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const responses = [...byStatus].map(([status, group]) => {
    const description = group.map((code) => `\`${code}\`: ${CODES[code].title}`).join('\n\n');
    return [status, { description, content: { [PROBLEM]: { schema: problemSchema } } }] as const;
  });
  return Object.fromEntries(responses);
}

const OAUTH_REFUSALS: Record<string, unknown> = Object.fromEntries(
  [
    [400, '`invalid_request`, `invalid_target`, `invalid_scope` or `unsupported_grant_type`.'],
    [401, '`invalid_client`: every cause looks the same.'],
    [413, '`invalid_request`: the body is too large.'],
    [415, '`invalid_request`: the body is not a form.'],
    [429, '`temporarily_unavailable`: a limit of the key stands in the way. See Retry-After.'],
    [500, '`server_error`.'],
    [503, '`temporarily_unavailable`: keep the key and try again. See Retry-After.'],
  ].map(([status, description]) => [
    status,
    { description, content: { 'application/json': { schema: oauthErrorSchema } } },
  ]),
);
