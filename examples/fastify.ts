/** Fastify: `node --conditions=source examples/fastify.ts [port]`. */
import type { AddressInfo } from 'node:net';
import { fastify } from 'fastify';
import { createPantheonAuth } from 'pantheon-auth';
import { pantheonAuth } from 'pantheon-auth/fastify';
import { demoFolder, printDemo, stopWith } from './demo.ts';

const dataDir = demoFolder();
const auth = await createPantheonAuth({ dataDir, issuer: 'http://localhost:3000' });

const app = fastify();

// Everything in this scope needs a credential, unless a route says otherwise. CORS, if you need it, goes before.
await app.register(pantheonAuth(auth, { permissions: ['docs:read'] }));
app.get('/health', { config: { pantheonAuth: false } }, async () => ({ ok: true }));
app.get('/docs', async (request) => ({ docs: ['first'], for: request.principal.userId }));

// Asked together with the plugin's own permissions: a request that is refused takes nothing from any limit.
app.post('/docs', { config: { pantheonAuth: { permissions: ['docs:write'] } } }, async (_request, reply) => {
  return reply.code(201).send({ stored: true });
});

await app.listen({ port: Number(process.argv[2] ?? 3000), host: '127.0.0.1' });
await printDemo(auth, dataDir, (app.server.address() as AddressInfo).port);

stopWith(async () => {
  await app.close();
  await auth.close();
});
