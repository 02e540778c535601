/** What the OpenAPI file says is what the service does: programs that are made from it must work. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type Answer, openScratchService, type Request, type ScratchService } from '../test/scratch-service.ts';
import { allOperations } from './app.ts';
import { toTemplate } from './openapi.ts';
import { SchemaCollector } from './openapi-schemas.ts';
import type { Operation } from './operation.ts';

interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required: boolean;
  readonly schema: Readonly<Record<string, unknown>>;
}

interface Documented {
  readonly security: readonly Readonly<Record<string, unknown>>[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly required: boolean };
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
  test('every reference leads to a component, and every component is referred to', () => {
    const { schemas } = document['components'] as { schemas: Readonly<Record<string, unknown>> };
    const text = JSON.stringify(document);
    const referred = new Set(
      Array.from(text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g), ([, name]) => name),
    );
    expect([...referred].sort()).toEqual(Object.keys(schemas).sort());
    expect(text.split('"$ref"').length).toBe(text.split('"$ref":"#/components/schemas/').length);
  });

  test('a call names one security scheme, so that a client sends one credential, and every scheme is named', () => {
    for (const { operation, told } of calls) {
      const schemes = told.security.flatMap((one) => Object.keys(one));
      expect(schemes.length, operation.id).toBe(operation.access.kind === 'public' ? 0 : 1);
    }
    const { securitySchemes } = document['components'] as { securitySchemes: object };
    const named = new Set(calls.flatMap(({ told }) => told.security.flatMap((one) => Object.keys(one))));
    expect([...named].sort()).toEqual(Object.keys(securitySchemes).sort());
  });

  test('the name of a call is the name of a function in the clients of others: none is taken away', () => {
    const names =
      'getJwks getAuthorizationServerMetadata getHealth getReadiness getHome issueToken verifyKey createKey listKeys getKey ' +
      'updateKey revokeKey suspendKey resumeKey rotateKey listKeyVersions retireKeyVersion getKeyUsage getUsage getSelf ' +
      'rotateSelf revokeSelf createTenant listTenants getTenant updateTenant suspendTenant resumeTenant deleteTenant listEvents';
    const ids = calls.map(({ operation }) => operation.id);
    expect(names.split(' ').filter((name) => !ids.includes(name))).toEqual([]);
  });

  test('an answer may gain members, a request has those that are named', () => {
    const schemas = new SchemaCollector();
    const one = z.strictObject({ a: z.string() });
    expect(schemas.answer(one)).not.toHaveProperty('additionalProperties');
    expect(schemas.request(one)).toHaveProperty('additionalProperties', false);
  });

  test('one name is one schema', () => {
    const schemas = new SchemaCollector();
    schemas.answer(z.strictObject({ a: z.string() }).meta({ id: 'OneOfTwo' }));
    expect(() => schemas.request(z.strictObject({ a: z.string() }).meta({ id: 'OneOfTwo' }))).toThrow('OneOfTwo');
  });

  test('what has no bound, no form or one choice is told without noise', () => {
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

  test('a path of the public URL is in the addresses of the calls', async () => {
    const under = await openScratchService({ PUBLIC_URL: 'https://example.com/auth' });
    const { body } = await under.call('GET', '/openapi.json', { key: null });
    expect(body['servers']).toEqual([{ url: 'https://example.com/auth' }]);
    expect(Object.keys(body['paths'] as object)).toContain('/.well-known/oauth-authorization-server/auth');
    await under.close();
  });
});

describe('requests', () => {
  test('a body is required exactly where a call without one is refused for it', async () => {
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

  test('every parameter of a query has a type that bounds it, or says in words what it holds', () => {
    const free = ['cursor', 'userId', 'q', 'type', 'subjectId'];
    for (const { operation, told } of calls)
      for (const { name, schema } of queryOf(told)) {
        const isTyped = schema['type'] !== 'string' || 'enum' in schema || 'format' in schema;
        expect(isTyped || free.includes(name), `${operation.id}: ${name}`).toBe(true);
      }
  });

  test('what a documented type allows is taken, and what it does not allow is refused by its name', async () => {
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

  test('a page holds as many as the documented default when nothing else is asked for', async () => {
    for (let made = 0; made < 51; made += 1) await service.create({ userId: 'many' });
    const limit = calls
      .find(({ operation }) => operation.id === 'listKeys')
      ?.told.parameters?.find(({ name }) => name === 'limit');
    expect(limit?.schema).toEqual({ type: 'integer', minimum: 1, maximum: 200, default: 50 });
    const { body } = await service.call('GET', '/v1/keys?userId=many');
    expect((body['items'] as unknown[]).length).toBe(limit?.schema['default']);
  });
});

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

  test('every status that a call ends with is documented for it, with its media type and its headers', async () => {
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

  test('the documented example of a body is one that the call takes', async () => {
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

  test('every call tells how long to wait where it tells to wait', () => {
    for (const { operation, told } of calls)
      for (const [status, { headers = {} }] of Object.entries(told.responses))
        expect('Retry-After' in headers, `${operation.id}: ${status}`).toBe(['429', '503'].includes(status));
  });
});

function examplesOf({ body }: Operation): readonly unknown[] {
  const meta = body?.meta() ?? (body instanceof z.ZodOptional ? (body.unwrap() as z.ZodType).meta() : undefined);
  return (meta?.['examples'] ?? []) as readonly unknown[];
}
