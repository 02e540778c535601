/** The service as a process: it listens, says what to do next, and stops without losing anything. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createPantheonAuth, parseKey } from 'pantheon-auth';
import { afterEach, expect, test } from 'vitest';
import { createLogger } from '../http/logging.ts';
import { type Config, loadConfig } from '../settings/config.ts';
import { listenBeside } from './localhost.ts';
import { openService } from './open.ts';
import { type Running, serve } from './serve.ts';
import { holdsRootKey, printWelcome } from './welcome.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function scratchConfig(flags: Record<string, string> = {}): Config {
  const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-serve-'));
  closers.push(() => rmSync(folder, { recursive: true, force: true }));
  return loadConfig({ DATA_DIR: folder, PORT: '0', PUBLIC_URL: 'http://localhost:8787', ...flags }, {}, folder).config;
}

const QUIET = { logger: createLogger('silent'), handleSignals: false, write: () => {} };

async function serving(config: Config, options: Parameters<typeof serve>[1] = QUIET): Promise<Running> {
  const running = await serve(config, options);
  closers.push(() => running.close());
  return running;
}

/** A process of its own, so that it can be told to stop. */
const PROGRAM = `
  const { loadConfig, serve } = await import(${JSON.stringify(new URL('../index.ts', import.meta.url).href)});
  const { localUrl } = await serve(loadConfig().config);
  process.on('message', (text) => Promise.reject(new Error(text)));
  process.channel.unref();
  process.send(localUrl);
`;

async function spawned(
  config: Config,
): Promise<{ readonly child: ChildProcess; readonly url: string; readonly output: () => string }> {
  const child = spawn(process.execPath, ['--conditions=source', '--input-type=module', '--eval', PROGRAM], {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
    env: {
      PANTHEON_AUTH_DATA_DIR: config.dataDir,
      PANTHEON_AUTH_PORT: '0',
      PANTHEON_AUTH_PUBLIC_URL: config.publicUrl,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  closers.push(() => child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (data) => {
      output += String(data);
    });
  const [url] = await once(child, 'message');
  return { child, url: String(url), output: () => output };
}

test('the printed commands work when copied, and contain no secret', async () => {
  const config = scratchConfig();
  const written: string[] = [];
  await serving(config, { ...QUIET, write: (text) => written.push(text) });
  const text = written.join('');
  const rootKey = readFileSync(config.rootKeyFile, 'latin1').trim();
  expect(text).not.toContain(rootKey);
  expect(text).toContain(config.rootKeyFile);
  const commands = text.slice(text.indexOf('# Call with')).replaceAll('\n#', '\necho\n#');
  for (const shell of ['bash', 'sh']) {
    const { stdout } = await promisify(execFile)(shell, ['-euc', commands]);
    const [, , verified, token] = stdout.split('\n');
    expect(JSON.parse(verified ?? '')).toMatchObject({ valid: true, permissions: ['reports:read'] });
    expect(JSON.parse(token ?? '')).toMatchObject({ token_type: 'Bearer', scope: 'reports:read' });
  }
});

test('the start message has commands only for a root key that works in this store', async () => {
  const config = scratchConfig();
  const { auth, close } = await openService(config, createLogger('silent'));
  closers.push(close);
  const told = async (rootKeyFile: string): Promise<string> => {
    let text = '';
    const isRootKeyHere = await holdsRootKey(auth, rootKeyFile);
    printWelcome({ rootKeyFile, docs: true }, { localUrl: 'http://x', rootKey: 'existing', isRootKeyHere }, (part) => {
      text += part;
    });
    return text;
  };
  expect(await told(config.rootKeyFile)).toContain('# Create a key');

  const other = scratchConfig();
  const elsewhere = await openService(other, createLogger('silent'));
  closers.push(elsewhere.close);
  const nonsense = join(config.dataDir, 'nonsense');
  writeFileSync(nonsense, 'pan_live_nonsense');
  const weak = join(config.dataDir, 'weak');
  writeFileSync(weak, (await auth.tenant('system').keys.create({ userId: 'u', name: 'n' })).key);
  const files = [other.rootKeyFile, nonsense, weak, join(config.dataDir, 'none'), config.dataDir];
  for (const file of files) {
    const text = await told(file);
    expect(text, file).toContain(`The root key of this store is not in ${file}`);
    expect(text, file).not.toContain('curl');
  }

  const root = parseKey(readFileSync(config.rootKeyFile, 'latin1').trim())?.id ?? '';
  const before = await auth.tenant('system').keys.get(root);
  expect(before.usageCount).toBe(0);
  await auth.tenant('system').rotation.rotate(root);
  expect(await told(config.rootKeyFile)).not.toContain('curl');
});

test('on SIGTERM it finishes running requests, stores counted usage and exits', async () => {
  const config = scratchConfig();
  const { child, url, output } = await spawned(config);
  const rootKey = readFileSync(config.rootKeyFile, 'latin1').trim();
  const headers = { authorization: `Bearer ${rootKey}`, 'content-type': 'application/json' };
  const created = await fetch(`${url}/v1/keys`, { method: 'POST', headers, body: '{"userId":"u","name":"n"}' });
  const { key, apiKey } = (await created.json()) as { key: string; apiKey: { id: string } };
  for (let asked = 0; asked < 50; asked += 1) {
    const body = JSON.stringify({ key });
    expect((await fetch(`${url}/v1/keys/verify`, { method: 'POST', headers, body })).status).toBe(200);
  }
  // One request is half sent when the signal comes.
  const body = JSON.stringify({ key });
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  await once(socket, 'connect');
  let answer = '';
  socket.on('data', (data) => {
    answer += String(data);
  });
  socket.write(
    `POST /v1/keys/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${rootKey}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 5)}`,
  );
  await fetch(`${url}/healthz`);
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const stopped = once(socket, 'close');
  await expect.poll(output).toContain('"stopping"');
  socket.write(body.slice(5));
  await stopped;
  expect(answer).toMatch(/^HTTP\/1.1 200/);
  expect(answer).toContain('"valid":true');
  expect(await exited).toEqual([0, null]);

  const auth = await createPantheonAuth({ dataDir: config.dataDir, issuer: config.publicUrl });
  expect((await auth.keys.get(apiKey.id)).usageCount).toBe(51);
  await auth.close();
  expect(output()).not.toContain(key);
  expect(output()).not.toContain(rootKey);
});

test('while it stops, answers say that their connection closes, and a long one is sent in full', async () => {
  const config = scratchConfig();
  const running = await serving(config);
  const port = Number(new URL(running.localUrl).port);
  const rootKey = readFileSync(config.rootKeyFile, 'latin1').trim();
  const half = connect(port, '127.0.0.1');
  const unused = connect(port, '127.0.0.1');
  const slow = connect(port, '127.0.0.1');
  await Promise.all([half, unused, slow].map((socket) => once(socket, 'connect')));
  let answer = '';
  half.on('data', (data) => {
    answer += String(data);
  });
  half.write(
    `POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${rootKey}\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n`,
  );
  // More than the buffers of two sockets hold, and nobody reads it yet.
  slow.pause();
  slow.write('GET /docs/scalar.js HTTP/1.1\r\nHost: x\r\n\r\n');
  const script = await (await fetch(`${running.localUrl}/docs/scalar.js`)).text();
  expect(script.length).toBeGreaterThan(1_000_000);
  const closed = running.close();
  await once(unused, 'close');
  half.write('{"userId":"u","name":"n"}');
  await once(half, 'close');
  expect(answer).toMatch(/^HTTP\/1.1 201 Created/);
  expect(answer).toMatch(/^connection: close\r$/im);
  let received = '';
  slow.setEncoding('utf8').on('data', (data) => {
    received += String(data);
  });
  slow.resume();
  await once(slow, 'close');
  expect(received.endsWith(script)).toBe(true);
  await closed;
});

test('an issuer with a path has its metadata where clients look for it (RFC 8414 section 3.1)', async () => {
  const running = await serving(scratchConfig({ PUBLIC_URL: 'http://localhost:8787/base/auth' }));
  const wellKnown = `${running.localUrl}/.well-known/oauth-authorization-server`;
  const [atPath, atRoot] = await Promise.all([fetch(`${wellKnown}/base/auth`), fetch(wellKnown)]);
  expect(atPath.status).toBe(200);
  expect(await atPath.json()).toMatchObject({ issuer: 'http://localhost:8787/base/auth' });
  expect(atRoot.status).toBe(200);
  expect((await fetch(`${wellKnown}/base`)).status).toBe(404);
});

test('a second signal ends it at once', async () => {
  const config = scratchConfig();
  const { child, url, output } = await spawned(config);
  const rootKey = readFileSync(config.rootKeyFile, 'latin1').trim();
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  await once(socket, 'connect');
  socket.on('error', () => {});
  closers.push(() => socket.destroy());
  // A request whose body never comes keeps the first signal waiting.
  socket.write(
    `POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${rootKey}\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n`,
  );
  await fetch(`${url}/healthz`);
  const exited = once(child, 'exit');
  child.kill('SIGINT');
  await expect.poll(output).toContain('"stopping"');
  child.kill('SIGINT');
  expect(await exited).toEqual([130, null]);
});

test('an uncaught error ends it with a line that contains no secret', async () => {
  const { child, output } = await spawned(scratchConfig());
  const exited = once(child, 'exit');
  const secret = `pan_live_${'a'.repeat(65)}`;
  child.send(`it met ${secret}`);
  expect(await exited).toEqual([1, null]);
  expect(output()).toContain('it met [credential]');
  expect(output()).not.toContain(secret.slice(0, 25));
});

test('a port in use, and an address of another machine, are reported in one line that names the setting', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  closers.push(() => other.close());
  const taken = String((other.address() as AddressInfo).port);
  const failing = async (flags: Record<string, string>) => serve(scratchConfig(flags), QUIET);
  await expect(failing({ PORT: taken })).rejects.toMatchObject({ code: 'port_in_use', field: 'PORT' });
  await expect(failing({ METRICS_PORT: taken })).rejects.toMatchObject({ code: 'port_in_use', field: 'METRICS_PORT' });
  const elsewhere = { HOST: '203.0.113.1', PUBLIC_URL: 'https://a.example' };
  await expect(failing(elsewhere)).rejects.toMatchObject({ code: 'invalid_setting', field: 'HOST' });
  const metricsElsewhere = { METRICS_PORT: '0', METRICS_HOST: '203.0.113.1' };
  await expect(failing(metricsElsewhere)).rejects.toMatchObject({ code: 'invalid_setting', field: 'METRICS_HOST' });
});

test('metrics are served on a listener of their own and nowhere else', async () => {
  const config = scratchConfig({ METRICS_PORT: '0', METRICS_HOST: '127.0.0.2' });
  const running = await serving(config);
  const rootKey = readFileSync(config.rootKeyFile, 'latin1').trim();
  await fetch(`${running.localUrl}/v1/self`, { headers: { authorization: `Bearer ${rootKey}` } });
  await fetch(`${running.localUrl}/v1/self`, { headers: { authorization: 'Bearer nonsense' } });
  await fetch(`${running.localUrl}/nowhere/${'x'.repeat(20)}`);
  const metrics = `http://127.0.0.2:${running.metricsPort}`;
  await expect(fetch(`http://127.0.0.1:${running.metricsPort}/metrics`)).rejects.toThrow();
  const text = await (await fetch(`${metrics}/metrics`)).text();
  expect(text).toContain(
    'http_server_request_duration_seconds_count{http_request_method="GET",http_route="/v1/self",http_response_status_code="200"} 1',
  );
  expect(text).toContain('http_route="unmatched"');
  expect(text).toMatch(/pantheon_auth_verifications_total\{outcome="valid"\} 1/);
  expect(text).toContain('process_cpu_seconds_total');
  expect(text).toMatch(/^pantheon_auth_limiter_degraded 0$/m);
  expect(text).toMatch(/^pantheon_auth_limiter_degraded_decisions_total 0$/m);
  expect(text).toMatch(/^pantheon_auth_job_runs_total\{job="usage-retention",outcome="success"\} 0$/m);
  expect(text).toMatch(/^pantheon_auth_job_runs_total\{job="usage-retention",outcome="failure"\} 0$/m);
  expect(text).toMatch(/^pantheon_auth_job_lease_held\{job="usage-retention"\} 0$/m);
  expect(text).not.toMatch(/^pantheon_auth_job_last_/m);
  expect((await fetch(`${metrics}/other`)).status).toBe(404);
  expect((await fetch(`${running.localUrl}/metrics`)).status).toBe(404);
});

test('plain http beyond this machine, when configured, gives a warning at the start', async () => {
  const lines: string[] = [];
  const logger = createLogger('warn', { write: (line) => void lines.push(line) });
  const insecure = { HOST: '0.0.0.0', PUBLIC_URL: 'http://auth.internal:8787', ALLOW_INSECURE_HTTP: 'on' };
  await serving(scratchConfig(insecure), { ...QUIET, logger });
  await serving(scratchConfig(), { ...QUIET, logger });
  expect(lines.filter((line) => line.includes('ALLOW_INSECURE_HTTP')).length).toBe(1);
});

test('settings without effect are reported once', async () => {
  const lines: string[] = [];
  const logger = createLogger('info', { write: (line) => void lines.push(line) });
  const running = await serving(scratchConfig(), { ...QUIET, logger, unknown: ['PANTHEON_AUTH_SERVICE_HOST'] });
  expect(lines.filter((line) => line.includes('PANTHEON_AUTH_SERVICE_HOST')).length).toBe(1);
  await running.close();
  await running.close();
  await running.closed;
});

test('stopping also waits for a request in progress on the second address', async () => {
  const running = await serving(scratchConfig());
  const { port } = running.app.server.address() as AddressInfo;
  const closeBeside = await listenBeside(running.app.server, ['127.0.0.2']);
  const client = connect(port, '127.0.0.2');
  let answer = '';
  client.on('data', (data) => {
    answer += data.toString();
  });
  await once(client, 'connect');
  const received = once(running.app.server, 'request');
  const type = 'Content-Type: application/x-www-form-urlencoded';
  client.write(`POST /oauth2/token HTTP/1.1\r\nHost: x\r\n${type}\r\nContent-Length: 3\r\n\r\na`);
  await received;
  closeBeside();
  let isStopped = false;
  const stopped = running.close().then(() => {
    isStopped = true;
  });
  await pause(200);
  expect(isStopped).toBe(false);
  client.write('=b');
  await stopped;
  expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
});
