/** Requests that are made to last: the credential is good when the headers arrive, and has ended when the body does. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { afterAll, describe, expect, test } from 'vitest';
import { expectNoSecretWritten, keepSecret, noteWritten, openService, type Service } from './harness.ts';

const PERMISSIONS = ['pantheon:*'];

afterAll(expectNoSecretWritten);

interface Presented {
  readonly service: Service;
  readonly keyId: string;
  readonly key: string;
  readonly token: string;
}

async function presented(service: Service): Promise<Presented> {
  const { key, apiKey } = await service.engine.create({ permissions: PERMISSIONS, grantable: ['*'] }, 'system');
  const { token } = await service.auth.tokens.issue(
    { tenantId: 'system', keyId: apiKey.id },
    { permissions: PERMISSIONS },
  );
  keepSecret(token);
  return { service, keyId: apiKey.id, key, token };
}

/** Sends the headers, waits until the service has accepted the credential, does `between`, and sends the body. */
async function sendSlowly(
  { service, keyId }: Presented,
  request: { readonly path: string; readonly by: string; readonly body: object },
  between: () => Promise<unknown>,
): Promise<{ readonly status: number; readonly text: string }> {
  const { auth, app } = service;
  const uses = async (): Promise<number> => (await auth.tenant('system').keys.get(keyId)).usageCount;
  const before = await uses();
  const body = JSON.stringify(request.body);
  const { port } = app.server.address() as { port: number };
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
  });
  const lines = [
    `POST ${request.path} HTTP/1.1`,
    'host: localhost',
    'connection: close',
    `authorization: Bearer ${request.by}`,
    'content-type: application/json',
    `content-length: ${body.length}`,
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body.slice(0, 1)}`);
  while ((await uses()) === before) await new Promise((resolve) => setTimeout(resolve, 5));
  await between();
  socket.end(body.slice(1));
  await once(socket, 'close');
  noteWritten(text);
  return { status: Number(text.slice(9, 12)), text };
}

const ENDS: Readonly<Record<string, { readonly via: 'key' | 'token'; end(presented: Presented): Promise<unknown> }>> = {
  'a key that was revoked': {
    via: 'key',
    end: ({ service, keyId }) => service.auth.tenant('system').keys.revoke(keyId),
  },
  'a key whose version was rotated out': {
    via: 'key',
    end: ({ service, keyId }) => service.auth.tenant('system').rotation.rotate(keyId, { overlap: 0 }),
  },
  'a token that was revoked by its id': {
    via: 'token',
    end: ({ service, keyId, token }) => {
      const { jti: tokenId = '', exp = 0 } = decodeJwt(token);
      return service.auth.tokens.revoke({ tenantId: 'system', keyId, tokenId, expiresAt: exp * 1_000 });
    },
  },
  'a token that was revoked with all of its key': {
    via: 'token',
    end: ({ service, keyId }) => service.auth.tokens.revokeAllOf({ tenantId: 'system', keyId }),
  },
  'a token whose signing key was retired': {
    via: 'token',
    end: ({ service, token }) => service.auth.tokens.retireSigningKey(decodeProtectedHeader(token).kid ?? ''),
  },
  'a token whose key was suspended': {
    via: 'token',
    end: ({ service, keyId }) => service.auth.tenant('system').keys.suspend(keyId),
  },
};

describe('revoked between the headers and the body', () => {
  test.each(Object.entries(ENDS))('%s creates no key', async (_name, { via, end }) => {
    await using service = await openService();
    await service.app.listen({ port: 0, host: '127.0.0.1' });
    const mine = await presented(service);
    const body = { userId: 'u', name: 'n', permissions: ['pantheon:keys:read'], expiresIn: '1m' };
    const request = { path: '/v1/keys', by: mine[via], body };
    const answer = await sendSlowly(mine, request, () => end(mine));
    expect(answer.status, answer.text).toBeGreaterThanOrEqual(401);
    expect(answer.status, answer.text).toBeLessThan(404);
    expect((await service.auth.keys.list()).items).toEqual([]);
  });

  test.each(Object.entries(ENDS))('%s gets no verification of another key', async (_name, { via, end }) => {
    await using service = await openService();
    await service.app.listen({ port: 0, host: '127.0.0.1' });
    const mine = await presented(service);
    const limited = { rateLimits: [{ name: 'minute', limit: 5, window: '1m' }] };
    const { key, apiKey } = await service.engine.create(limited);
    const request = { path: '/v1/keys/verify', by: mine[via], body: { key } };
    const answer = await sendSlowly(mine, request, async () => {
      await end(mine);
      service.engine.clock.advance(1_001);
    });
    expect(answer.status, answer.text).toBeGreaterThanOrEqual(401);
    expect(answer.status, answer.text).toBeLessThan(404);
    // Nor did it spend what that key has.
    expect((await service.auth.keys.get(apiKey.id)).usageCount).toBe(0);
  });

  test('a caller that is still valid is served, however slow the body was', async () => {
    await using service = await openService();
    await service.app.listen({ port: 0, host: '127.0.0.1' });
    const mine = await presented(service);
    const { key } = await service.engine.create();
    const request = { path: '/v1/keys/verify', by: mine.key, body: { key } };
    const answer = await sendSlowly(mine, request, async () => service.engine.clock.advance(20_000));
    expect(answer.status, answer.text).toBe(200);
    expect(answer.text).toContain('"valid":true');
  });
});
