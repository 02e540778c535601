/**
 * Load balancers and monitors ask in their own ways, and each finds the service well. The bytes of HAProxy are those that
 * version 2.6.12 was seen to send; the others follow the documentation of each.
 */
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openScratchService, type ScratchService } from './scratch-service.ts';

let service: ScratchService;
let port = 0;
beforeAll(async () => {
  // Where health checks are needed there is a name, a certificate and a proxy in front.
  service = await openScratchService({ PUBLIC_URL: 'https://auth.example.com/auth', TRUSTED_PROXIES: '127.0.0.1' });
  await service.app.listen({ port: 0, host: '127.0.0.1' });
  port = (service.app.server.address() as AddressInfo).port;
});
afterAll(() => service.close());

function raw(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(text));
    socket.on('data', (data) => {
      answer += data.toString('latin1');
    });
    socket.on('close', () => resolve(answer));
    socket.on('error', reject);
  });
}

const UPTIME_KUMA = [
  'Accept: text/html,application/json,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
  'User-Agent: Uptime-Kuma/1.23.16',
  'Accept-Encoding: gzip, compress, deflate, br',
  'Host: auth.example.com',
  'Connection: close',
].join('\r\n');

const CHECKS: readonly (readonly [name: string, request: string])[] = [
  // `option httpchk` with nothing more, and with a method and an address.
  ['HAProxy by default', 'OPTIONS / HTTP/1.0\r\n\r\n'],
  ['HAProxy with an address', 'GET /healthz HTTP/1.0\r\n\r\n'],
  ['HAProxy with HEAD', 'HEAD /healthz HTTP/1.0\r\n\r\n'],
  ['HAProxy asking for readiness', 'GET /readyz HTTP/1.0\r\n\r\n'],
  ['HAProxy with OPTIONS', 'OPTIONS /readyz HTTP/1.0\r\n\r\n'],
  ['HAProxy with a Host', 'GET /readyz HTTP/1.1\r\nhost: auth.example.com\r\nconnection: close\r\n\r\n'],
  ['Uptime Kuma by default', `GET / HTTP/1.1\r\n${UPTIME_KUMA}\r\n\r\n`],
  ['Uptime Kuma with HEAD', `HEAD /healthz HTTP/1.1\r\n${UPTIME_KUMA}\r\n\r\n`],
  ['Uptime Kuma against caches', `GET /readyz?uptime_kuma_cachebuster=0.123 HTTP/1.1\r\n${UPTIME_KUMA}\r\n\r\n`],
  [
    'Uptime Kuma with an empty JSON body',
    `GET /healthz HTTP/1.1\r\nContent-Type: application/json\r\n${UPTIME_KUMA}\r\n\r\n`,
  ],
  [
    'Kubernetes',
    'GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:8787\r\nUser-Agent: kube-probe/1.31\r\nAccept: */*\r\nConnection: close\r\n\r\n',
  ],
  [
    'a load balancer of AWS',
    'GET /healthz HTTP/1.1\r\nHost: 10.1.2.3:8787\r\nUser-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n',
  ],
];

describe('a healthy service', () => {
  test.each(CHECKS)('is reported as healthy by %s', async (_name, request) => {
    const answer = await raw(request);
    expect(answer).toMatch(/^HTTP\/1.1 20[04] /);
    expect(answer).not.toContain('\r\nlocation:');
  });
});

test('a service without its store is alive, and not ready', async () => {
  const broken = await openScratchService();
  await broken.auth.close();
  for (const method of ['GET', 'HEAD'] as const) {
    expect((await broken.call(method, '/healthz', { key: null })).status).toBe(200);
    expect((await broken.call(method, '/readyz', { key: null })).status).toBe(503);
  }
  await broken.app.close();
});
