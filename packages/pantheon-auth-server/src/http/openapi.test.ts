/** What the OpenAPI file says is what the service does: programs that are made from it must work. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type Answer, openScratchService, type Request, type ScratchService } from '../../test/scratch-service.ts';
import { allOperations } from '../app.ts';
import { toTemplate } from './openapi.ts';
import { SchemaCollector } from './openapi-schemas.ts';
import type { Operation } from './operation.ts';

interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required: boolean;
  readonly schema: Readonly<Record<string, unknown>>;
}

type Schema = Readonly<Record<string, unknown>>;

interface Documented {
  readonly security: readonly Readonly<Record<string, unknown>>[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: {
    readonly required: boolean;
    readonly content: Readonly<Record<string, { readonly schema: Schema }>>;
  };
  readonly responses: Readonly<
    Record<
      string,
      { readonly headers?: Readonly<Record<string, unknown>>; readonly content: Readonly<Record<string, unknown>> }
    >
  >;
}

let service: ScratchService;
let document: Readonly<Record<string, unknown>>;
let calls: readonly { readonly operation: Operation; readonly told: Documented }[];
beforeAll(async () => {
  service = await openScratchService();
  document = (await service.call('GET', '/openapi.json', { key: null })).body;
  const paths = document['paths'] as Record<string, Record<string, Documented>>;
  calls = allOperations(service.auth, service.config).map((operation) => {
    const told = paths[toTemplate(operation.url)]?.[operation.method.toLowerCase()];
    if (told === undefined) throw new Error(`${operation.id} is not documented`);
    return { operation, told };
  });
});
afterAll(() => service.close());

const queryOf = ({ parameters = [] }: Documented) => parameters.filter((parameter) => parameter.in === 'query');

/** Of keys and tenants that do not exist, unless an id is given. */
function urlOf({ url }: Operation, id = '0000000000000000'): string {
  return url.replace(':id', id).replace(':version', '1');
}

describe('the document', () => {
  test('every reference has its component, and every component is used', () => {
    const { schemas } = document['components'] as { schemas: Readonly<Record<string, unknown>> };
    const text = JSON.stringify(document);
    const referred = new Set(
      Array.from(text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g), ([, name]) => name),
    );
    expect([...referred].sort()).toEqual(Object.keys(schemas).sort());
    expect(text.split('"$ref"').length).toBe(text.split('"$ref":"#/components/schemas/').length);
  });

  test('an operation names one security scheme, so that a client sends one credential, and every scheme is used', () => {
    for (const { operation, told } of calls) {
      const schemes = told.security.flatMap((one) => Object.keys(one));
      expect(schemes.length, operation.id).toBe(operation.access.kind === 'public' ? 0 : 1);
    }
    const { securitySchemes } = document['components'] as { securitySchemes: object };
    const named = new Set(calls.flatMap(({ told }) => told.security.flatMap((one) => Object.keys(one))));
    expect([...named].sort()).toEqual(Object.keys(securitySchemes).sort());
  });

  test('the id of an operation is the name of a function in generated clients: none is removed', () => {
    const names =
      'getJwks getAuthorizationServerMetadata getHealth getReadiness getHome issueToken verifyKey createKey listKeys getKey ' +
      'updateKey revokeKey suspendKey resumeKey rotateKey listKeyVersions retireKeyVersion getKeyUsage getUsage getSelf ' +
      'rotateSelf revokeSelf createTenant listTenants getTenant updateTenant suspendTenant resumeTenant deleteTenant listEvents';
    const ids = calls.map(({ operation }) => operation.id);
    expect(names.split(' ').filter((name) => !ids.includes(name))).toEqual([]);
  });

  test('an answer may have more members, a request has only the documented ones', () => {
    const schemas = new SchemaCollector();
    const one = z.strictObject({ a: z.string() });
    expect(schemas.answer(one)).not.toHaveProperty('additionalProperties');
    expect(schemas.request(one)).toHaveProperty('additionalProperties', false);
  });

  test('one schema name has one definition', () => {
    const schemas = new SchemaCollector();
    schemas.answer(z.strictObject({ a: z.string() }).meta({ id: 'OneOfTwo' }));
    expect(() => schemas.request(z.strictObject({ a: z.string() }).meta({ id: 'OneOfTwo' }))).toThrow('OneOfTwo');
  });

  test('schemas without a bound, a format or a choice say so without empty keywords', () => {
    const schema = z.strictObject({
      at: z.union([z.iso.datetime(), z.date()]).nullable(),
      free: z.record(z.string(), z.unknown()),
      count: z.int(),
      twice: z
        .union([z.int(), z.string().min(1)])
        .nullable()
        .nullish(),
    });
    expect(new SchemaCollector().request(schema)).toEqual({
      type: 'object',
      properties: {
        at: { anyOf: [{ type: 'string', format: 'date-time' }, { type: 'null' }] },
        free: { type: 'object', additionalProperties: true },
        count: { type: 'integer' },
        twice: { anyOf: [{ type: 'integer' }, { type: 'string', minLength: 1 }, { type: 'null' }] },
      },
      required: ['at', 'free', 'count'],
      additionalProperties: false,
    });
  });

  test('a path in the public URL is part of the addresses', async () => {
    const under = await openScratchService({ PUBLIC_URL: 'https://example.com/auth' });
    const { body } = await under.call('GET', '/openapi.json', { key: null });
    expect(body['servers']).toEqual([{ url: 'https://example.com/auth' }]);
    expect(Object.keys(body['paths'] as object)).toContain('/.well-known/oauth-authorization-server/auth');
    await under.close();
  });
});

describe('requests', () => {
  test('a body is required exactly if a request without one is refused for it', async () => {
    for (const { operation, told } of calls) {
      if (told.requestBody === undefined) continue;
      // Found or not: whether the body is there is looked at first.
      const { status } = await service.call(operation.method, urlOf(operation));
      expect({ id: operation.id, required: status === 400 }).toEqual({
        id: operation.id,
        required: told.requestBody.required,
      });
    }
  });

  test('every property of every body, at any depth, has a description', () => {
    const missing: string[] = [];
    let looked = 0;
    for (const { operation, told } of calls)
      for (const { schema } of Object.values(told.requestBody?.content ?? {}))
        for (const [path, property] of propertiesIn(schema, operation.id)) {
          looked += 1;
          const { description } = property;
          const isLine =
            typeof description === 'string' && /^[A-Z\d"].*\.$/.test(description) && !description.includes('\n');
          if (!isLine) missing.push(path);
        }
    expect(missing).toEqual([]);
    expect(looked).toBeGreaterThan(80);
  });

  test('the description of a key contains the bounds that the service enforces', async () => {
    const { schemas } = document['components'] as { schemas: Readonly<Record<string, Schema>> };
    const described = new Map(
      propertiesIn(schemas['CreateKeyInput'] ?? {}, '').map(([path, { description }]) => [path, description]),
    );
    const limits = (limit: number, window: string, name = 'a') => ({ rateLimits: [{ name, limit, window }] });
    const list = (length: number, text: (n: number) => string) => Array.from({ length }, (_, n) => text(n));
    const many = (length: number) => ({
      rateLimits: list(length, (n) => `r${n}`).map((name) => ({ name, limit: 1, window: '1s' })),
    });
    const claims = (length: number) => ({
      jwt: { customClaims: Object.fromEntries(list(length, (n) => `c${n}`).map((name) => [name, 1])) },
    });
    const rows: readonly (readonly [string, string, object, object])[] = [
      ['.name', '128 characters', { name: 'n'.repeat(128) }, { name: 'n'.repeat(129) }],
      ['.userId', '256 characters', { userId: 'u'.repeat(256) }, { userId: 'u'.repeat(257) }],
      ['.description', '1024 characters', { description: 'd'.repeat(1_024) }, { description: 'd'.repeat(1_025) }],
      [
        '.metadata',
        '4096 bytes',
        { metadata: { a: 'm'.repeat(4_096 - 8) } },
        { metadata: { a: 'm'.repeat(4_096 - 7) } },
      ],
      ['.metadata', '8 levels', { metadata: nested(8) }, { metadata: nested(9) }],
      ['.permissions', '256', { permissions: list(256, (n) => `a:${n}`) }, { permissions: list(257, (n) => `a:${n}`) }],
      ['.grantable', '256', { grantable: list(256, (n) => `a:${n}`) }, { grantable: list(257, (n) => `a:${n}`) }],
      ['.expiresIn', '3650 days', { expiresIn: '3650d' }, { expiresIn: '3651d' }],
      ['.expiresIn', '1 second', { expiresIn: 1 }, { expiresIn: 0 }],
      [
        '.ipAllowlist',
        '64',
        { ipAllowlist: list(64, (n) => `10.0.0.${n}`) },
        { ipAllowlist: list(65, (n) => `10.0.0.${n}`) },
      ],
      ['.rateLimits', '8', many(8), many(9)],
      ['.rateLimits.name', '1 to 32', limits(1, '1s', 'n'.repeat(32)), limits(1, '1s', 'n'.repeat(33))],
      [
        '.quota.limit',
        '1000000000',
        { quota: { limit: 1e9, period: 'day' } },
        { quota: { limit: 1e9 + 1, period: 'day' } },
      ],
      ['.jwt.customClaims', '32', claims(32), claims(33)],
      [
        '.jwt.customClaims',
        '4096 bytes',
        { jwt: { customClaims: { a: 'c'.repeat(4_096 - 8) } } },
        { jwt: { customClaims: { a: 'c'.repeat(4_096 - 7) } } },
      ],
      [
        '.jwt.audience',
        '16',
        { jwt: { audience: list(16, (n) => `a${n}`) } },
        { jwt: { audience: list(17, (n) => `a${n}`) } },
      ],
      [
        '.jwt.audience',
        '512 characters',
        { jwt: { audience: ['a'.repeat(512)] } },
        { jwt: { audience: ['a'.repeat(513)] } },
      ],
      ['.rateLimits.limit', '1000000000', limits(1_000_000_000, '1m'), limits(1_000_000_001, '1m')],
      ['.rateLimits.window', '1 second to 31 days', limits(1, '31d'), limits(1, '32d')],
      ['.rotation.every', '1 second', { rotation: { every: '1s' } }, { rotation: { every: 0 } }],
      [
        '.rotation.window',
        '1 minute',
        { rotation: { every: '1d', window: 60 } },
        { rotation: { every: '1d', window: 59 } },
      ],
      ['.rotation.window', '90 days', { rotation: { window: '90d' } }, { rotation: { window: '91d' } }],
      ['.rotation.overlap', '30 days', { rotation: { overlap: '30d' } }, { rotation: { overlap: '31d' } }],
      ['.jwt.ttl', '1 hour', { jwt: { ttl: '1h' } }, { jwt: { ttl: 3_601 } }],
      ['.jwt.ttl', '5 minutes', { jwt: { algorithm: 'HS256', ttl: '5m' } }, { jwt: { algorithm: 'HS256', ttl: 301 } }],
    ];
    for (const [path, bound, most, more] of rows) {
      expect(described.get(path), path).toContain(bound);
      // What is within its bounds may be refused for something else: an audience that the tenant has not.
      const isInvalid = async (body: object) =>
        (await service.call('POST', '/v1/keys', { body: { userId: 'u', name: 'n', ...body } })).status === 400;
      expect([await isInvalid(most), await isInvalid(more)], `${path} ${bound}`).toEqual([false, true]);
    }
  });

  test('every query parameter has a type that bounds it, or a description of its values', () => {
    const free = ['cursor', 'userId', 'q', 'type', 'subjectId'];
    for (const { operation, told } of calls)
      for (const { name, schema } of queryOf(told)) {
        const isTyped = schema['type'] !== 'string' || 'enum' in schema || 'format' in schema;
        expect(isTyped || free.includes(name), `${operation.id}: ${name}`).toBe(true);
      }
  });

  test('values that a documented type allows are accepted, and others are refused with their name', async () => {
    const { apiKey } = await service.create();
    const ask = async (operation: Operation, name: string, value: unknown) => {
      const id = operation.tag === 'Tenants' ? 'default' : apiKey.id;
      const { status, body } = await service.call(operation.method, `${urlOf(operation, id)}?${name}=${value}`, {
        body: operation.body === undefined ? undefined : {},
      });
      return { status, field: body['field'] };
    };
    let asked = 0;
    for (const { operation, told } of calls)
      for (const { name, schema } of queryOf(told)) {
        const { good, bad } = valuesOf(schema);
        for (const value of good) {
          const { status, field } = await ask(operation, name, value);
          expect(status === 400 && field === name, `${operation.id}: ${name}=${value}`).toBe(false);
        }
        for (const value of bad)
          expect(await ask(operation, name, value), `${operation.id}: ${name}=${value}`).toEqual({
            status: 400,
            field: name,
          });
        asked += good.length + bad.length;
      }
    expect(asked).toBeGreaterThan(60);
  });

  test('a page has the documented default size unless another is requested', async () => {
    for (let made = 0; made < 51; made += 1) await service.create({ userId: 'many' });
    const limit = calls
      .find(({ operation }) => operation.id === 'listKeys')
      ?.told.parameters?.find(({ name }) => name === 'limit');
    expect(limit?.schema).toEqual({ type: 'integer', minimum: 1, maximum: 200, default: 50 });
    const { body } = await service.call('GET', '/v1/keys?userId=many');
    expect((body['items'] as unknown[]).length).toBe(limit?.schema['default']);
  });
});

/** JSON of so many levels. */
function nested(levels: number): Schema {
  return levels === 1 ? {} : { a: nested(levels - 1) };
}

/** Of a body: its properties and those in them, by their path. What is a component is looked up. */
function propertiesIn(schema: Schema, path: string): readonly (readonly [string, Schema])[] {
  const { $ref, properties = {}, items, anyOf = [] } = schema;
  if (typeof $ref === 'string') {
    const { schemas } = document['components'] as { schemas: Readonly<Record<string, Schema>> };
    return propertiesIn(schemas[$ref.split('/').at(-1) ?? ''] ?? {}, path);
  }
  const own = Object.entries(properties as Readonly<Record<string, Schema>>).flatMap(([name, one]) => [
    [`${path}.${name}`, one] as const,
    ...propertiesIn(one, `${path}.${name}`),
  ]);
  const inItems = items === undefined ? [] : propertiesIn(items as Schema, path);
  return [...own, ...inItems, ...(anyOf as readonly Schema[]).flatMap((one) => propertiesIn(one, path))];
}

/** Values that a schema lets through, and such that it does not. */
function valuesOf(schema: Readonly<Record<string, unknown>>): { readonly good: unknown[]; readonly bad: unknown[] } {
  if (schema['type'] === 'boolean') return { good: [true, false], bad: ['', '1', 'yes', 'TRUE'] };
  if (schema['type'] === 'integer') {
    const [least, most] = [Number(schema['minimum']), Number(schema['maximum'])];
    return { good: [least, most], bad: [least - 1, most + 1, '', '1.5', '1e1', '01', '%201', 'x'] };
  }
  if (Array.isArray(schema['enum'])) return { good: schema['enum'], bad: ['', 'other', 'constructor'] };
  if (schema['format'] === 'date-time') return { good: [], bad: ['', 'yesterday', '2026-13-01T00:00:00Z'] };
  return { good: [], bad: [] };
}

describe('answers', () => {
  /** What can go wrong on the way to any call, and what goes right with the documented examples. */
  async function answersOf(operation: Operation, weakKey: string, spentKey: string): Promise<readonly Answer[]> {
    const url = urlOf(operation);
    const requests: readonly (Request & { readonly url?: string })[] = [
      { key: null },
      { key: 'pan_live_nonsense' },
      { key: weakKey },
      { key: spentKey },
      ...examplesOf(operation).map((body) => ({ body })),
      { url: `${url}?k=${weakKey}` },
      { body: '{' },
      { body: '[]' },
      { body: {} },
      { body: { nonsense: true } },
      { form: 'a=b' },
      { body: '{}', headers: { 'content-type': 'text/plain' } },
      { body: ' '.repeat(70_000) },
      { headers: { 'pantheon-tenant': 'nowhere' } },
      { headers: { 'x-api-key': weakKey } },
    ];
    const answers: Answer[] = [];
    for (const { url: other = url, ...request } of requests)
      answers.push(await service.call(operation.method, other, request));
    return answers;
  }

  test('every status that an operation returns is documented for it, with its media type and its headers', async () => {
    const weak = await service.create();
    const spent = await service.create({
      permissions: ['pantheon:*'],
      rateLimits: [{ name: 'one', limit: 1, window: '1h' }],
    });
    await service.auth.verify({ key: spent.key });
    const seen = new Set<number>();
    for (const { operation, told } of calls) {
      // The last one would end the key that asks.
      if (operation.id === 'revokeSelf') continue;
      for (const { status, headers, text } of await answersOf(operation, weak.key, spent.key)) {
        const response = told.responses[status];
        const at = `${operation.id}: ${status} ${text.slice(0, 200)}`;
        expect(response, at).toBeDefined();
        const type = headers['content-type']?.split(';', 1)[0] ?? '';
        expect(Object.keys(response?.content ?? {}), at).toContain(type);
        for (const name of ['retry-after', 'www-authenticate', 'location'] as const) {
          const documented = Object.keys(response?.headers ?? {}).map((one) => one.toLowerCase());
          if (name !== 'www-authenticate' || status === 401)
            expect(documented.includes(name), `${at} ${name}`).toBe(name in headers);
        }
        seen.add(status);
      }
    }
    expect([...seen].sort()).toEqual(expect.arrayContaining([200, 201, 400, 401, 403, 404, 413, 415, 429]));
  });

  test('the documented example of a body is accepted by its operation', async () => {
    const { apiKey } = await service.create({ rotation: { overlap: '1h' } });
    let tried = 0;
    for (const { operation } of calls) {
      if (operation.bodyKind === 'form' || operation.id.endsWith('Tenant')) continue;
      for (const body of examplesOf(operation)) {
        const answer = await service.call(operation.method, urlOf(operation, apiKey.id), { body });
        expect([400, 415, 422].includes(answer.status), `${operation.id}: ${answer.text}`).toBe(false);
        tried += 1;
      }
    }
    expect(tried).toBeGreaterThan(6);
  });

  test('every operation documents Retry-After for the statuses that have it', () => {
    for (const { operation, told } of calls)
      for (const [status, { headers = {} }] of Object.entries(told.responses))
        expect('Retry-After' in headers, `${operation.id}: ${status}`).toBe(['429', '503'].includes(status));
  });
});

function examplesOf({ body }: Operation): readonly unknown[] {
  const meta = body?.meta() ?? (body instanceof z.ZodOptional ? (body.unwrap() as z.ZodType).meta() : undefined);
  return (meta?.['examples'] ?? []) as readonly unknown[];
}
