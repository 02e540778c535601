import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { changedKeySchema, changedVersionSchema, settledRotationSchema } from '../src/api/keys/schemas.ts';
import { verificationSchema } from '../src/api/keys/verification-schema.ts';
import { openScratchService, type ScratchService } from './scratch-service.ts';

/** `stalenessMax` and the margin. */
const WAIT_MS = 1_050;
const SCHEMAS = { key: changedKeySchema, rotation: settledRotationSchema, version: changedVersionSchema } as const;

let service: ScratchService;
beforeAll(async () => {
  service = await openScratchService();
});
afterAll(() => service.close());

/** Each change, of a key of its own. */
const CHANGES: Readonly<
  Record<string, readonly [schema: keyof typeof SCHEMAS, call: (id: string, query: string) => Call]>
> = {
  update: ['key', (id, query) => ['PATCH', `/v1/keys/${id}${query}`, { body: { name: 'other' } }]],
  suspend: ['key', (id, query) => ['POST', `/v1/keys/${id}/suspend${query}`]],
  resume: ['key', (id, query) => ['POST', `/v1/keys/${id}/resume${query}`]],
  revoke: ['key', (id, query) => ['POST', `/v1/keys/${id}/revoke${query}`]],
  rotate: ['rotation', (id, query) => ['POST', `/v1/keys/${id}/rotate${query}`]],
  retire: ['version', (id, query) => ['POST', `/v1/keys/${id}/versions/1/retire${query}`]],
  rollback: ['key', (id, query) => ['POST', `/v1/keys/${id}/rollback${query}`]],
};
type Call = Parameters<ScratchService['call']>;

/** Rotated once, so that there is a version to retire; that is still accepted, so the rotation names the current one. */
async function keyFor(name: string): Promise<string> {
  const { id } = (await service.create()).apiKey;
  if (name === 'retire' || name === 'rollback') await service.auth.rotation.rotate(id);
  return id;
}

test('with settle=true a change answers when it holds on every node, and says until when a token may be accepted offline', async () => {
  const answers = Object.entries(CHANGES).map(async ([name, [schema, call]]) => {
    const id = await keyFor(name);
    const begun = performance.now();
    const answer = await service.call(...call(id, '?settle=true'));
    expect(performance.now() - begun, name).toBeGreaterThanOrEqual(WAIT_MS);
    const { settledAt, offlineUntil } = SCHEMAS[schema].parse(answer.body);
    // The default life of a token.
    expect(Date.parse(String(offlineUntil)) - Date.parse(String(settledAt)), name).toBeGreaterThanOrEqual(300_000);
  });
  await Promise.all(answers);
});

test('without it, or with settle=false, the answer has none of that', async () => {
  for (const [name, [schema, call]] of Object.entries(CHANGES)) {
    const answer = await service.call(...call(await keyFor(name), name === 'revoke' ? '?settle=false' : ''));
    const body = SCHEMAS[schema].parse(answer.body);
    expect([body.settledAt, body.offlineUntil], name).toEqual([undefined, undefined]);
  }
});

test('for a key whose tokens only this service verifies the value is null', async () => {
  const { apiKey } = await service.create({ jwt: { algorithm: 'HS256', audience: ['https://api.example'] } });
  const { body } = await service.call('POST', `/v1/keys/${apiKey.id}/revoke?settle=true`);
  expect(body).toMatchObject({ settledAt: expect.any(String), offlineUntil: null });
});

test('a value other than true and false is refused with its name', async () => {
  const { apiKey } = await service.create();
  const { status, body } = await service.call('POST', `/v1/keys/${apiKey.id}/revoke?settle=1`);
  expect([status, body['field']]).toEqual([400, 'settle']);
});

test('the OpenAPI file documents settle on each operation that takes it, and what it adds', async () => {
  const { body } = await service.call('GET', '/openapi.json', { key: null });
  const operations = Object.values(body['paths'] as Record<string, Record<string, Documented>>).flatMap((path) =>
    Object.values(path),
  );
  const taking = operations.filter(({ parameters }) => parameters?.some(({ name }) => name === 'settle'));
  expect(taking.map(({ operationId }) => operationId).toSorted()).toEqual([
    'resumeKey',
    'retireKeyVersion',
    'revokeKey',
    'rollBackKey',
    'rotateKey',
    'suspendKey',
    'updateKey',
  ]);
  for (const { parameters, responses } of taking) {
    expect(parameters?.find(({ name }) => name === 'settle')?.description).toContain('offlineUntil');
    expect(responses['503']?.description).toContain('overloaded');
  }
  expect(JSON.stringify(body)).toContain('"settledAt"');
});

interface Documented {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly description?: string }[];
  readonly responses: Readonly<Record<string, { readonly description: string }>>;
}

test('limits that this node counted alone are marked in the body, with an acceptance and with a denial', async () => {
  const { key } = await service.create();
  const ask = async () => (await service.call('POST', '/v1/keys/verify', { body: { key } })).body;
  expect(await ask()).not.toHaveProperty('degraded');
  const real = await service.auth.verify({ key });
  const spy = vi.spyOn(service.auth, 'verify');
  try {
    spy.mockResolvedValueOnce({ ...real, degraded: true });
    expect(verificationSchema.parse(await ask())).toMatchObject({ valid: true, degraded: true });
    const denial = { code: 'rate_limited', violated: ['burst'] } as const;
    const no = { valid: false, denial, secretVerified: true, keyId: 'a', retryAfterSeconds: 1, limits: [] } as const;
    spy.mockResolvedValueOnce({ ...no, degraded: true });
    expect(verificationSchema.parse(await ask())).toMatchObject({ valid: false, degraded: true });
    spy.mockResolvedValueOnce({ ...no, degraded: false });
    expect(await ask()).not.toHaveProperty('degraded');
  } finally {
    spy.mockRestore();
  }
});
