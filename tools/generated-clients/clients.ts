/**
 * The generators that the API file must satisfy: how each is called, and one program per client that creates, verifies,
 * rotates and revokes with nothing but what was generated. The programs are text, because what they import exists only
 * in the folder of one run.
 */

export interface GeneratedClient {
  readonly name: string;
  /** The package whose command generates. */
  readonly generator: string;
  /** Its arguments, in a folder with `openapi.json`. */
  readonly generate: (baseUrl: string) => readonly string[];
  /** Files that the generator reads. */
  readonly files?: (baseUrl: string) => Readonly<Record<string, string>>;
  /** The module `program.ts`: its default export tells a {@link Story}. */
  readonly program: string;
}

/** What a program saw. */
export interface Story {
  readonly created: { readonly id: string; readonly permissions: readonly string[] };
  readonly verified: { readonly valid: boolean; readonly version: number | null };
  readonly rotated: { readonly version: number; readonly previous: number };
  readonly listed: number;
  readonly token: string;
  readonly revoked: string;
  /** The code of a verification afterwards. */
  readonly afterwards: string | null;
  /** The code of an error. */
  readonly missing: string | null;
}

/** Of the service that the programs talk to: its name, and so the audience of its tokens. */
export const PUBLIC_URL = 'https://auth.pantheon.test';

const CREATE = `{ userId: 'user-1', name: 'generated', permissions: ['docs:read'], expiresIn: '90d', rotation: { overlap: '1h' } }`;
const EXCHANGE = `grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange', subject_token_type: 'urn:pantheon-auth:params:oauth:token-type:api-key', audience: ['${PUBLIC_URL}']`;
/** Both unions narrow by \`valid\`. */
const VERDICT = `{ valid: verified.valid, version: verified.valid ? verified.version : null }`;

const OPENAPI_FETCH: GeneratedClient = {
  name: 'openapi-typescript and openapi-fetch',
  generator: 'openapi-typescript',
  generate: () => ['openapi.json', '-o', 'schema.ts'],
  program: `
import createClient from 'openapi-fetch';
import type { paths } from './schema.js';

export default async function story(baseUrl: string, key: string) {
  const client = createClient<paths>({ baseUrl, headers: { Authorization: 'Bearer ' + key } });
  const created = given(await client.POST('/v1/keys', { body: ${CREATE} }));
  const { id } = created.apiKey;
  const path = { id };
  const rotated = given(await client.POST('/v1/keys/{id}/rotate', { params: { path } }));
  const verified = given(await client.POST('/v1/keys/verify', { body: { key: rotated.key, permissions: ['docs:read'], cost: 0 } }));
  const page = given(await client.GET('/v1/keys', { params: { query: { userId: 'user-1', state: 'active', limit: 1 } } }));
  const token = given(await client.POST('/oauth2/token', {
    body: { ${EXCHANGE}, subject_token: rotated.key, ttl: 60 },
    headers: { Authorization: null, 'Content-Type': 'application/x-www-form-urlencoded' },
  }));
  const revoked = given(await client.POST('/v1/keys/{id}/revoke', { params: { path, query: { cascade: true, settle: false } } }));
  const dead = given(await client.POST('/v1/keys/verify', { body: { key: rotated.key } }));
  const { error } = await client.GET('/v1/keys/{id}', { params: { path: { id: '0000000000000000' } } });
  return {
    created: { id, permissions: created.apiKey.permissions },
    verified: ${VERDICT},
    rotated: { version: rotated.apiKey.version, previous: rotated.previous.version },
    listed: page.items.length,
    token: token.token_type,
    revoked: revoked.state,
    afterwards: dead.valid ? null : dead.code,
    missing: error?.code ?? null,
  };
}

function given<T>({ data, error }: { readonly data?: T; readonly error?: unknown }): T {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}
`,
};

const HEY_API: GeneratedClient = {
  name: '@hey-api/openapi-ts',
  generator: '@hey-api/openapi-ts',
  generate: () => ['-i', 'openapi.json', '-o', 'api', '-c', '@hey-api/client-fetch', '--no-log-file'],
  program: `
import { createKey, getKey, issueToken, listKeys, revokeKey, rotateKey, verifyKey } from './api/index.js';
import { createClient } from './api/client/index.js';

export default async function story(baseUrl: string, key: string) {
  const client = createClient({ baseUrl, auth: key, throwOnError: true });
  const { data: created } = await createKey({ client, throwOnError: true, body: ${CREATE} });
  const { id } = created.apiKey;
  const path = { id };
  const { data: rotated } = await rotateKey({ client, throwOnError: true, path });
  const { data: verified } = await verifyKey({ client, throwOnError: true, body: { key: rotated.key, permissions: ['docs:read'], cost: 0 } });
  const { data: page } = await listKeys({ client, throwOnError: true, query: { userId: 'user-1', state: 'active', limit: 1 } });
  const { data: token } = await issueToken({
    client: createClient({ baseUrl }),
    throwOnError: true,
    body: { ${EXCHANGE}, subject_token: rotated.key, ttl: 60 },
  });
  const { data: revoked } = await revokeKey({ client, throwOnError: true, path, query: { cascade: true, settle: false } });
  const { data: dead } = await verifyKey({ client, throwOnError: true, body: { key: rotated.key } });
  const { error } = await getKey({ client, throwOnError: false, path: { id: '0000000000000000' } });
  return {
    created: { id, permissions: created.apiKey.permissions },
    verified: ${VERDICT},
    rotated: { version: rotated.apiKey.version, previous: rotated.previous.version },
    listed: page.items.length,
    token: token.token_type,
    revoked: revoked.state,
    afterwards: dead.valid ? null : dead.code,
    missing: error?.code ?? null,
  };
}
`,
};

const ORVAL: GeneratedClient = {
  name: 'orval',
  generator: 'orval',
  generate: () => ['--config', 'orval.config.mjs'],
  files: (baseUrl) => ({
    'orval.config.mjs': `export default { api: { input: './openapi.json', output: { target: './client.ts', client: 'fetch', baseUrl: '${baseUrl}' } } };\n`,
  }),
  program: `
import { createKey, getKey, issueToken, listKeys, revokeKey, rotateKey, verifyKey } from './client.js';

export default async function story(baseUrl: string, key: string) {
  const options = { headers: { Authorization: 'Bearer ' + key } };
  const created = only(await createKey(${CREATE}, options), 201);
  const { id } = created.apiKey;
  const rotated = only(await rotateKey(id, undefined, undefined, options), 201);
  const verified = only(await verifyKey({ key: rotated.key, permissions: ['docs:read'], cost: 0 }, options), 200);
  const page = only(await listKeys({ userId: 'user-1', state: 'active', limit: 1 }, options), 200);
  const token = only(await issueToken({ ${EXCHANGE}, subject_token: rotated.key, ttl: 60 }), 200);
  const revoked = only(await revokeKey(id, undefined, { cascade: true, settle: false }, options), 200);
  const dead = only(await verifyKey({ key: rotated.key }, options), 200);
  const missing = await getKey('0000000000000000', options);
  return {
    created: { id, permissions: created.apiKey.permissions },
    verified: ${VERDICT},
    rotated: { version: rotated.apiKey.version, previous: rotated.previous.version },
    listed: page.items.length,
    token: token.token_type,
    revoked: revoked.state,
    afterwards: dead.valid ? null : dead.code,
    missing: missing.status === 404 ? missing.data.code : null,
  };
}

function only<Answer extends { readonly status: number; readonly data: unknown }, Status extends Answer['status']>(
  answer: Answer,
  status: Status,
): Extract<Answer, { readonly status: Status }>['data'] {
  if (answer.status !== status) throw new Error(JSON.stringify(answer));
  return answer.data;
}
`,
};

export const GENERATED_CLIENTS: readonly GeneratedClient[] = [OPENAPI_FETCH, HEY_API, ORVAL];
