/** Express: `node --conditions=source examples/express.ts [port]`. */
import type { AddressInfo } from 'node:net';
import express from 'express';
import { createPantheonAuth } from 'pantheon-auth';
import { pantheonAuth, principalOf, requirePermission } from 'pantheon-auth/express';
import { demoFolder, printDemo, stopWith } from './demo.ts';

const dataDir = demoFolder();
const auth = await createPantheonAuth({ dataDir, issuer: 'http://localhost:3000' });

const app = express();
app.get('/health', (_req, res) => void res.json({ ok: true }));

// Everything from here on needs a credential. CORS, if you need it, goes before.
app.use(pantheonAuth(auth, { permissions: ['docs:read'] }));
app.get('/docs', (req, res) => void res.json({ docs: ['first'], for: principalOf(req).userId }));
app.post('/docs', requirePermission('docs:write'), (_req, res) => void res.status(201).json({ stored: true }));

const server = app.listen(Number(process.argv[2] ?? 3000), '127.0.0.1', async (error) => {
  if (error) throw error;
  await printDemo(auth, dataDir, (server.address() as AddressInfo).port);
});

stopWith(async () => {
  await new Promise((resolve) => server.close(resolve));
  await auth.close();
});
