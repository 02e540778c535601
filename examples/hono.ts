/** Hono: `node --conditions=source examples/hono.ts [port]`. */
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { createPantheonAuth } from 'pantheon-auth';
import { type AuthEnv, pantheonAuth, requirePermission } from 'pantheon-auth/hono';
import { demoFolder, printDemo, stopWith } from './demo.ts';

const dataDir = demoFolder();
const auth = await createPantheonAuth({ dataDir, issuer: 'http://localhost:3000' });

const app = new Hono<AuthEnv>();
app.get('/health', (c) => c.json({ ok: true }));

// Everything from here on needs a credential. CORS, if you need it, goes before.
app.use(pantheonAuth(auth, { permissions: ['docs:read'] }));
app.get('/docs', (c) => c.json({ docs: ['first'], for: c.var.principal.userId }));
app.post('/docs', requirePermission('docs:write'), (c) => c.json({ stored: true }, 201));

const server = serve({ fetch: app.fetch, port: Number(process.argv[2] ?? 3000), hostname: '127.0.0.1' }, ({ port }) => {
  void printDemo(auth, dataDir, port);
});

stopWith(async () => {
  await new Promise((resolve) => server.close(resolve));
  await auth.close();
});
