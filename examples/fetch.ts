/** Any handler of `Request` and `Response`: `node --conditions=source examples/fetch.ts [port]`. */
import { serve } from '@hono/node-server';
import { createPantheonAuth } from 'pantheon-auth';
import { requirePermission, withAuth } from 'pantheon-auth/fetch';
import { demoFolder, printDemo, stopWith } from './demo.ts';

const dataDir = demoFolder();
const auth = await createPantheonAuth({ dataDir, issuer: 'http://localhost:3000' });
const options = { permissions: ['docs:read'] };

const routes = new Map<string, (request: Request) => Response | Promise<Response>>([
  ['GET /health', () => Response.json({ ok: true })],
  ['GET /docs', withAuth(auth, options, (_, principal) => Response.json({ docs: ['first'], for: principal.userId }))],
  [
    'POST /docs',
    withAuth(
      auth,
      options,
      requirePermission('docs:write', () => Response.json({ stored: true }, { status: 201 })),
    ),
  ],
]);

function fetch(request: Request): Response | Promise<Response> {
  const route = routes.get(`${request.method} ${new URL(request.url).pathname}`);
  return route === undefined ? new Response(null, { status: 404 }) : route(request);
}

// Node serves such handlers through this; Deno, Bun and the workers of others do it by themselves.
const server = serve({ fetch, port: Number(process.argv[2] ?? 3000), hostname: '127.0.0.1' }, ({ port }) => {
  void printDemo(auth, dataDir, port);
});

stopWith(async () => {
  await new Promise((resolve) => server.close(resolve));
  await auth.close();
});
