/**
 * Certified OAuth clients work with the service as it is documented: they find its endpoints by discovery, authenticate
 * in each way that the metadata name, and check what they get.
 */
import { createServer, type Server } from 'node:http';
import { buffer } from 'node:stream/consumers';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import type { CreatedKey } from 'pantheon-auth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../../../tools/servers/free-port.ts';
import { API_KEY_TYPE, TOKEN_EXCHANGE } from '../src/oauth/token-request.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

/** Plain http, on loopback. */
const HTTP = { [oauth.allowInsecureRequests]: true } as const;
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

interface Site {
  readonly service: ScratchService;
  readonly issuer: string;
  readonly client: CreatedKey;
  close(): Promise<void>;
}

/** With a path the service stands behind a proxy that takes the path off, and serves what belongs to the whole host. */
async function openSite(path = ''): Promise<Site> {
  const port = await freePort();
  const issuer = `http://127.0.0.1:${port}${path}`;
  const service = await openScratchService({ PUBLIC_URL: issuer });
  const inner = path === '' ? port : await freePort();
  await service.app.listen({ port: inner, host: '127.0.0.1' });
  const proxy = path === '' ? null : await stripping(path, port, inner);
  const client = await service.create({ permissions: ['docs:read', 'docs:write'] });
  return {
    service,
    issuer,
    client,
    close: async () => {
      proxy?.close().closeAllConnections();
      await service.close();
    },
  };
}

async function stripping(path: string, port: number, inner: number): Promise<Server> {
  const proxy = createServer(async (request, response) => {
    const { url = '/', method = 'GET', headers } = request;
    const body = await buffer(request);
    const target = url.startsWith(`${path}/`) ? url.slice(path.length) : url;
    const { host: _host, connection: _connection, 'content-length': _length, ...rest } = headers;
    const answer = await fetch(`http://127.0.0.1:${inner}${target}`, {
      method,
      headers: rest as Record<string, string>,
      redirect: 'manual',
      ...(body.length > 0 && { body }),
    });
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise<void>((resolve) => proxy.listen(port, '127.0.0.1', resolve));
  return proxy;
}

const SITES = [
  ['at the root of a host', ''],
  ['under a path', '/auth'],
] as const;

describe.each(SITES)('an issuer %s', (_name, path) => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite(path);
  });
  afterAll(() => site.close());

  async function discovered(): Promise<oauth.AuthorizationServer> {
    const issuer = new URL(site.issuer);
    const response = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...HTTP });
    return oauth.processDiscoveryResponse(issuer, response);
  }

  const authentications = () =>
    [
      ['client_secret_basic', oauth.ClientSecretBasic(site.client.key), openid.ClientSecretBasic(site.client.key)],
      ['client_secret_post', oauth.ClientSecretPost(site.client.key), openid.ClientSecretPost(site.client.key)],
    ] as const;

  test('oauth4webapi gets a token by client credentials with each method in the metadata, and verifies it', async () => {
    const server = await discovered();
    const client = { client_id: site.client.apiKey.id };
    for (const [method, authentication] of authentications()) {
      expect(server.token_endpoint_auth_methods_supported).toContain(method);
      const response = await oauth.clientCredentialsGrantRequest(
        server,
        client,
        authentication,
        { scope: 'docs:read' },
        HTTP,
      );
      const token = await oauth.processClientCredentialsResponse(server, client, response);
      expect(token, method).toMatchObject({ token_type: 'bearer', scope: 'docs:read', expires_in: 300 });
      const request = new Request(site.issuer, { headers: { authorization: `Bearer ${token.access_token}` } });
      const claims = await oauth.validateJwtAccessToken(server, request, site.issuer, HTTP);
      expect(claims).toMatchObject({ iss: site.issuer, client_id: client.client_id, scope: 'docs:read' });
    }
  });

  test('openid-client does the same', async () => {
    for (const [method, , authentication] of authentications()) {
      const config = await openid.discovery(new URL(site.issuer), site.client.apiKey.id, {}, authentication, {
        algorithm: 'oauth2',
        execute: [openid.allowInsecureRequests],
      });
      const token = await openid.clientCredentialsGrant(config, { scope: 'docs:write' });
      expect(token, method).toMatchObject({ token_type: 'bearer', scope: 'docs:write' });
    }
  });

  test('both exchange a key, with client authentication and without', async () => {
    const server = await discovered();
    const client = { client_id: site.client.apiKey.id };
    const parameters = { subject_token: site.client.key, subject_token_type: API_KEY_TYPE };
    for (const authentication of [...authentications().map(([, one]) => one), oauth.None()]) {
      const response = await oauth.genericTokenEndpointRequest(
        server,
        client,
        authentication,
        TOKEN_EXCHANGE,
        parameters,
        HTTP,
      );
      const token = await oauth.processGenericTokenEndpointResponse(server, client, response);
      expect(token).toMatchObject({ issued_token_type: ACCESS_TOKEN, token_type: 'bearer' });
    }
    const config = await openid.discovery(new URL(site.issuer), client.client_id, {}, openid.None(), {
      algorithm: 'oauth2',
      execute: [openid.allowInsecureRequests],
    });
    const token = await openid.genericGrantRequest(config, TOKEN_EXCHANGE, parameters);
    expect(token).toMatchObject({ issued_token_type: ACCESS_TOKEN, token_type: 'bearer' });
  });

  test('a client can parse a refusal as an error', async () => {
    const server = await discovered();
    const client = { client_id: site.client.apiKey.id };
    const refused = async (authentication: oauth.ClientAuth, scope: string) => {
      const response = await oauth.clientCredentialsGrantRequest(server, client, authentication, { scope }, HTTP);
      return oauth.processClientCredentialsResponse(server, client, response);
    };
    await expect(refused(oauth.ClientSecretPost(site.client.key), 'admin:all')).rejects.toMatchObject({
      error: 'invalid_scope',
      status: 400,
    });
    const wrong = `${site.client.key.slice(0, -1)}${site.client.key.endsWith('0') ? '1' : '0'}`;
    await expect(refused(oauth.ClientSecretBasic(wrong), 'docs:read')).rejects.toMatchObject({
      name: 'WWWAuthenticateChallengeError',
      status: 401,
    });
  });

  test('every URL that the service returns works', async () => {
    const server = await discovered();
    const addresses = [server.jwks_uri, server['service_documentation'], `${site.issuer}/openapi.json`];
    for (const address of addresses) expect((await fetch(String(address))).status, String(address)).toBe(200);
    const page = await (await fetch(`${site.issuer}/docs`)).text();
    const origin = new URL(site.issuer).origin;
    const script = /<script src="([^"]+)"/.exec(page)?.[1] ?? '';
    const document = /"url":"([^"]+)"/.exec(page)?.[1] ?? '';
    for (const found of [script, document]) {
      expect(found.startsWith(`${path}/`), found).toBe(true);
      expect((await fetch(origin + found)).status, found).toBe(200);
    }
    const home = await (await fetch(`${site.issuer}/`)).text();
    for (const [address] of home.matchAll(/http\S+/g)) expect((await fetch(address)).status, address).toBe(200);

    const headers = { authorization: `Bearer ${site.service.rootKey}`, 'content-type': 'application/json' };
    const created = await fetch(`${site.issuer}/v1/keys`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ userId: 'u', name: 'n' }),
    });
    const location = new URL(created.headers.get('location') ?? '', created.url);
    expect(location.href.startsWith(`${site.issuer}/v1/keys/`)).toBe(true);
    expect((await fetch(location, { headers })).status).toBe(200);
  });
});
