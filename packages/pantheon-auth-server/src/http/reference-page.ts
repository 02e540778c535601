/**
 * Serves `/openapi.json`, and `/docs`, which shows it with Scalar. The page loads nothing from other hosts. The file and
 * the script are each one `Buffer` that all answers share: text would be copied for every answer that is not read.
 */
import { randomBytes } from 'node:crypto';
import Fastify, { type FastifyInstance } from 'fastify';
import { type Config, pathOf } from '../settings/config.ts';
import { openApiDocument } from './openapi.ts';
import type { Operation } from './operation.ts';
import type { Row } from './unmatched.ts';

const OPENAPI_PATH = '/openapi.json';
const PAGE_PATH = '/docs';
const SCRIPT_PATH = '/docs/scalar.js';
const NONCE_BYTES = 16;
/** How long browsers may cache the script, which changes only with a new version of the service. */
const SCRIPT_MAX_AGE_SECONDS = 3_600;

/** Allows requests to this service only, also those that a reader sends from the page. */
function contentSecurityPolicy(nonce: string): string {
  return [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    // Scalar sets inline styles. Styles cannot run code.
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

const SETTINGS = {
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  agent: { disabled: true },
  mcp: { disabled: true },
  showDeveloperTools: 'never',
  // The page does not store a key that a reader typed in.
  persistAuth: false,
} as const;

type Site = Pick<Config, 'publicUrl'>;

export function serveOpenApi(app: FastifyInstance, operations: readonly Operation[], config: Site): readonly Row[] {
  let document: Promise<Buffer> | null = null;
  app.get(OPENAPI_PATH, async (_request, reply) => {
    // Built on the first request: most nodes never get one.
    document ??= openApiDocument(operations, config).then((made) => Buffer.from(JSON.stringify(made)));
    reply.headers({ 'access-control-allow-origin': '*', 'cache-control': 'public, max-age=300' });
    reply.type('application/json; charset=utf-8');
    return document;
  });
  return [{ method: 'GET', url: OPENAPI_PATH }];
}

export function serveReference(app: FastifyInstance, config: Site): readonly Row[] {
  // Paths as the browser sees them: a proxy may serve this service under a path.
  const base = pathOf(config);
  let script: Promise<Buffer> | null = null;
  app.get(PAGE_PATH, async (_request, reply) => {
    const nonce = randomBytes(NONCE_BYTES).toString('base64');
    reply.header('content-security-policy', contentSecurityPolicy(nonce)).type('text/html; charset=utf-8');
    return page(nonce, base);
  });
  app.get(SCRIPT_PATH, async (_request, reply) => {
    script ??= readScript();
    reply.header('cache-control', `public, max-age=${SCRIPT_MAX_AGE_SECONDS}`);
    reply.type('text/javascript; charset=utf-8');
    return script;
  });
  return [PAGE_PATH, SCRIPT_PATH].map((url) => ({ method: 'GET', url }));
}

function page(nonce: string, base: string): string {
  const settings = JSON.stringify({ ...SETTINGS, url: base + OPENAPI_PATH });
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta property="csp-nonce" content="${nonce}" nonce="${nonce}">
    <title>Pantheon Auth: the API</title>
  </head>
  <body>
    <div id="app"></div>
    <script src="${base.replaceAll('&', '&amp;')}${SCRIPT_PATH}" nonce="${nonce}"></script>
    <script nonce="${nonce}">Scalar.createApiReference('#app', ${settings})</script>
  </body>
</html>
`;
}

/**
 * The package serves its script only as a plugin of a Fastify server, so it is registered on one that never listens.
 * Loaded on first use: the script is 5 MB, and most nodes never serve the page.
 */
async function readScript(): Promise<Buffer> {
  const { default: scalar } = await import('@scalar/fastify-api-reference');
  const server = Fastify();
  try {
    await server.register(scalar, { routePrefix: '/docs', configuration: { url: OPENAPI_PATH } });
    const { rawPayload } = await server.inject('/docs/js/scalar.js');
    return rawPayload;
  } finally {
    await server.close();
  }
}
