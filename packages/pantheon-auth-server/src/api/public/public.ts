/** Routes without authentication: index page, health checks, public keys and OAuth metadata. */
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { JWKS_MAX_AGE_SECONDS, type PantheonAuth } from 'pantheon-auth';
import { z } from 'zod';
import type { Operation } from '../../http/operation.ts';
import { CLIENT_AUTH_METHODS, GRANT_TYPES } from '../../oauth/token-request.ts';
import type { Config } from '../../settings/config.ts';

/**
 * A new signing key is published for longer than this `max-age` before it signs, so a verifier with a cached copy has
 * it.
 */
const PUBLIC_HEADERS = {
  'cache-control': `public, max-age=${JWKS_MAX_AGE_SECONDS}`,
  'access-control-allow-origin': '*',
} as const;

const json = z.record(z.string(), z.unknown());

export function publicOperations(auth: PantheonAuth, config: Config): readonly Operation[] {
  const metadata = authorizationServerMetadata(config);
  let jwks = jwksOf('');
  const tellMetadata: Operation['handle'] = (_request, reply) => {
    reply.headers(PUBLIC_HEADERS);
    return metadata;
  };
  return [
    {
      method: 'GET',
      url: '/.well-known/jwks.json',
      id: 'getJwks',
      tag: 'Discovery',
      summary: 'The public keys that tokens are verified with (RFC 7517).',
      access: { kind: 'public' },
      answer: {
        status: 200,
        description: 'A JWK set.',
        mediaType: JWKS_MEDIA_TYPE,
        schema: z.object({ keys: z.array(json) }),
      },
      codes: [],
      handle: async (request, reply) => {
        reply.headers(PUBLIC_HEADERS).type(JWKS_MEDIA_TYPE);
        // Reads the log, because an idle node may not yet have read a signing key that another node created.
        await auth.ping();
        const text = JSON.stringify(auth.tokens.jwks());
        if (jwks.text !== text) jwks = jwksOf(text);
        return withETag(request, reply, jwks);
      },
    },
    {
      method: 'GET',
      url: '/.well-known/oauth-authorization-server',
      id: 'getAuthorizationServerMetadata',
      tag: 'Discovery',
      summary: 'Metadata of the token endpoint (RFC 8414).',
      access: { kind: 'public' },
      answer: { status: 200, description: 'The metadata.', schema: json },
      codes: [],
      handle: tellMetadata,
    },
    ...metadataOfPath(config, tellMetadata),
    {
      method: 'GET',
      url: '/healthz',
      id: 'getHealth',
      tag: 'Health',
      summary: 'Liveness: the process answers. Does not use the database.',
      access: { kind: 'public' },
      answer: { status: 200, description: 'The process runs.', schema: z.strictObject({ status: z.literal('ok') }) },
      codes: [],
      handle: () => ({ status: 'ok' }),
    },
    {
      method: 'GET',
      url: '/readyz',
      id: 'getReadiness',
      tag: 'Health',
      summary: 'Readiness: the database answers, so requests can be answered.',
      access: { kind: 'public' },
      answer: {
        status: 200,
        description: 'The service is ready.',
        schema: z.strictObject({ status: z.literal('ready') }),
      },
      codes: ['store_unavailable'],
      handle: async () => {
        await auth.ping();
        return { status: 'ready' };
      },
    },
    {
      method: 'GET',
      url: '/',
      id: 'getHome',
      tag: 'Discovery',
      summary: 'A short description of the service with links.',
      access: { kind: 'public' },
      answer: { status: 200, description: 'A few lines of text.', mediaType: 'text/plain', schema: z.string() },
      codes: [],
      handle: (_request, reply) => {
        reply.headers(PUBLIC_HEADERS).type('text/plain; charset=utf-8');
        return home(config);
      },
    },
  ];
}

/** Where clients look when the issuer has a path (RFC 8414 section 3.1): the well-known part comes before the path. */
function metadataOfPath({ publicUrl }: Config, handle: Operation['handle']): readonly Operation[] {
  const { pathname } = new URL(publicUrl);
  if (pathname === '/') return [];
  return [
    {
      method: 'GET',
      // In Fastify a single colon begins a parameter.
      url: `/.well-known/oauth-authorization-server${pathname.replaceAll(':', '::')}`,
      id: 'getAuthorizationServerMetadataOfPath',
      tag: 'Discovery',
      summary: 'The same metadata at the address that RFC 8414 defines for an issuer with a path.',
      access: { kind: 'public' },
      answer: { status: 200, description: 'The metadata.', schema: json },
      codes: [],
      handle,
    },
  ];
}

const JWKS_MEDIA_TYPE = 'application/jwk-set+json';

/** One for all answers until the keys change. */
interface Jwks {
  readonly text: string;
  /** Fastify adds a charset to text, and `application/json` has no such parameter. */
  readonly bytes: Buffer;
  readonly tag: string;
}

function jwksOf(text: string): Jwks {
  const tag = `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`;
  return { text, bytes: Buffer.from(text), tag };
}

function withETag(request: FastifyRequest, reply: FastifyReply, { tag, bytes }: Jwks): Buffer | FastifyReply {
  reply.header('etag', tag);
  const known = request.headers['if-none-match']?.split(',').map((one) => one.trim().replace(/^W\//, '')) ?? [];
  if (known.includes(tag) || known.includes('*')) return reply.code(304).send();
  return bytes;
}

/** Built from the settings alone: a client chooses the Host header, so it is not used. */
function authorizationServerMetadata({ publicUrl, docs }: Config): Readonly<Record<string, unknown>> {
  return {
    issuer: publicUrl,
    token_endpoint: `${publicUrl}/oauth2/token`,
    jwks_uri: `${publicUrl}/.well-known/jwks.json`,
    // There is no authorization endpoint: no user logs in here.
    response_types_supported: [],
    grant_types_supported: GRANT_TYPES,
    token_endpoint_auth_methods_supported: CLIENT_AUTH_METHODS,
    ...(docs && { service_documentation: `${publicUrl}/docs` }),
  };
}

function home({ publicUrl, docs }: Config): string {
  const lines = [
    'Pantheon Auth: API keys and the tokens that come from them.',
    '',
    ...(docs ? [`The API    ${publicUrl}/docs`, `OpenAPI    ${publicUrl}/openapi.json`] : []),
    `Keys       ${publicUrl}/.well-known/jwks.json`,
    `Health     ${publicUrl}/healthz`,
    '',
    'There is no dashboard in this version.',
    '',
  ];
  return lines.join('\n');
}
