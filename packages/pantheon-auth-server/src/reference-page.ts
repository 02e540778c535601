/** `/docs`: the OpenAPI file for people, shown by Scalar. All of it comes from here, nothing from elsewhere. */
import { randomBytes } from 'node:crypto';
import Fastify, { type FastifyInstance, type FastifySchema } from 'fastify';

const SCRIPT_URL = '/docs/scalar.js';
const HIDDEN = { schema: { hide: true } as FastifySchema };
const NONCE_BYTES = 16;
/** It changes with the version of the service only. */
const SCRIPT_MAX_AGE_SECONDS = 3_600;

/** What is tried out in the page goes to this service and nowhere else. */
function contentSecurityPolicy(nonce: string): string {
  return [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    // The page styles single elements as it is laid out. Styles cannot run anything.
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
  url: '/openapi.json',
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  agent: { disabled: true },
  mcp: { disabled: true },
  showDeveloperTools: 'never',
  // A key that is typed in is forgotten with the page.
  persistAuth: false,
} as const;

export function serveReference(app: FastifyInstance): void {
  let script: Promise<string> | null = null;
  app.get('/docs', HIDDEN, async (_request, reply) => {
    const nonce = randomBytes(NONCE_BYTES).toString('base64');
    reply.header('content-security-policy', contentSecurityPolicy(nonce)).type('text/html; charset=utf-8');
    return page(nonce);
  });
  app.get(SCRIPT_URL, HIDDEN, async (_request, reply) => {
    script ??= readScript();
    reply.header('cache-control', `public, max-age=${SCRIPT_MAX_AGE_SECONDS}`);
    reply.type('text/javascript; charset=utf-8');
    return script;
  });
}

function page(nonce: string): string {
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
    <script src="${SCRIPT_URL}" nonce="${nonce}"></script>
    <script nonce="${nonce}">Scalar.createApiReference('#app', ${JSON.stringify(SETTINGS)})</script>
  </body>
</html>
`;
}

/**
 * The package gives its script only to a server that it answers for, so it gets one that never listens. Loaded when it is
 * first asked for: it is 5 MB, and most nodes never show a page.
 */
async function readScript(): Promise<string> {
  const { default: scalar } = await import('@scalar/fastify-api-reference');
  const server = Fastify();
  try {
    await server.register(scalar, { routePrefix: '/docs', configuration: { url: SETTINGS.url } });
    const { body } = await server.inject('/docs/js/scalar.js');
    return body;
  } finally {
    await server.close();
  }
}
