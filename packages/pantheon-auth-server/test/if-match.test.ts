/** Entity tags over HTTP: which answers have one, and what `If-Match` does to a change. */
import { CODES } from 'pantheon-auth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { allOperations } from '../src/app.ts';
import { type Answer, openScratchService, type ScratchService } from './scratch-service.ts';

let service: ScratchService;
beforeAll(async () => {
  service = await openScratchService();
});
afterAll(() => service.close());

const STRONG = /^"[\x21\x23-\x7e]+"$/;

/** The tag in the header, which is that of the record in the body. */
function tagOf({ headers, body }: Answer): string {
  const record = (body['apiKey'] ?? body) as { readonly etag?: string };
  expect(headers['etag']).toMatch(STRONG);
  expect(headers['etag']).toBe(record.etag);
  return headers['etag'] ?? '';
}

async function makeKey(): Promise<{ readonly path: string; readonly etag: string; readonly key: string }> {
  const body = { userId: 'u', name: 'n', permissions: ['docs:read'], rotation: { overlap: '1h' } };
  const created = await service.call('POST', '/v1/keys', { body });
  const { id } = created.body['apiKey'] as { readonly id: string };
  return { path: `/v1/keys/${id}`, etag: tagOf(created), key: String(created.body['key']) };
}

test('every answer with one key or tenant has its ETag, which can be used for the next change', async () => {
  const { path, etag, key } = await makeKey();
  expect(tagOf(await service.call('GET', path))).toBe(etag);
  let headers: Record<string, string> = { 'if-match': etag };
  const change = async (method: 'POST' | 'PATCH' | 'DELETE', url: string, body?: unknown): Promise<void> => {
    const answer = await service.call(method, url, { headers, ...(body !== undefined && { body }) });
    expect(answer.status, url).toBeLessThan(300);
    headers = { 'if-match': tagOf(answer) };
  };
  await change('PATCH', path, { name: 'other' });
  await change('POST', `${path}/rotate`);
  await change('POST', `${path}/suspend`);
  await change('POST', `${path}/resume`);
  await change('POST', `${path}/revoke`);
  expect(key).not.toContain(etag);

  headers = { 'if-match': tagOf(await service.call('POST', '/v1/tenants', { body: { id: 'tagged' } })) };
  await change('PATCH', '/v1/tenants/tagged', { name: 'Tagged' });
  await change('POST', '/v1/tenants/tagged/suspend');
  await change('POST', '/v1/tenants/tagged/resume');
  await change('DELETE', '/v1/tenants/tagged');

  const { items } = (await service.call('GET', '/v1/keys?userId=u')).body as { items: { id: string; etag: string }[] };
  for (const item of items) expect(tagOf(await service.call('GET', `/v1/keys/${item.id}`))).toBe(item.etag);
});

test('the holder gets the ETag of its own key, and its condition is checked', async () => {
  const { etag, key } = await makeKey();
  expect(tagOf(await service.call('GET', '/v1/self', { key }))).toBe(etag);
  const stale = { key, headers: { 'if-match': '"k99"' } };
  for (const what of ['rotate', 'revoke'])
    expect(await service.call('POST', `/v1/self/${what}`, stale)).toMatchObject({ status: 412 });
  const rotated = await service.call('POST', '/v1/self/rotate', { key, headers: { 'if-match': etag } });
  expect(rotated.status).toBe(201);
});

test('two changes with one ETag get 200 and 412, in whichever order they arrive', async () => {
  const { path, etag } = await makeKey();
  const edit = (name: string) => service.call('PATCH', path, { headers: { 'if-match': etag }, body: { name } });
  const answers = await Promise.all(['one', 'two', 'three'].map(edit));
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 412, 412]);
  const refused = answers.find(({ status }) => status === 412);
  expect(refused?.body).toMatchObject({ code: 'precondition_failed', status: 412, field: 'If-Match' });
  expect(refused?.headers['content-type']).toContain('application/problem+json');
});

describe('a condition', () => {
  test.each([
    ['a weak tag', (etag: string) => `W/${etag}`, 412],
    ['the tag among others', (etag: string) => `"x", ${etag}`, 200],
    ['whatever there is', () => '*', 200],
    ['only others', () => '"x","y"', 412],
    ['without quotation marks', (etag: string) => etag.slice(1, -1), 400],
    ['empty', () => '', 400],
  ] as const)('%s: %#', async (_what, ifMatch, status) => {
    const { path, etag } = await makeKey();
    const answer = await service.call('PATCH', path, { headers: { 'if-match': ifMatch(etag) }, body: { name: 'x' } });
    expect(answer.status).toBe(status);
  });

  test('on an unknown key, or one of another tenant, gives the same 404 as without it', async () => {
    const { apiKey } = await service.create({}, 'system');
    const ask = async (id: string, headers: Record<string, string>) => {
      const { status, body } = await service.call('PATCH', `/v1/keys/${id}`, { headers, body: { name: 'x' } });
      return { status, ...body, instance: '' };
    };
    const missing = await ask('0000000000000000', {});
    expect(missing.status).toBe(404);
    for (const ifMatch of [apiKey.etag, '"k99"', '*']) {
      expect(await ask(apiKey.id, { 'if-match': ifMatch })).toEqual(missing);
      expect(await ask('0000000000000000', { 'if-match': ifMatch })).toEqual(missing);
    }
  });

  test('never omits the body of an answer: usage changes without the ETag', async () => {
    const { path, etag } = await makeKey();
    for (const name of ['if-none-match', 'if-match']) {
      const answer = await service.call('GET', path, { headers: { [name]: etag } });
      expect(answer).toMatchObject({ status: 200, body: { etag } });
    }
  });
});

test('the OpenAPI file documents the ETag of the answers and the condition of the changes', async () => {
  const { body } = await service.call('GET', '/openapi.json', { key: null });
  type Told = {
    readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean }[];
    readonly responses: Readonly<Record<string, { readonly headers?: Readonly<Record<string, unknown>> }>>;
  };
  const paths = body['paths'] as Readonly<Record<string, Readonly<Record<string, Told>>>>;
  const told = allOperations(service.auth, service.config).map((operation) => {
    const path = operation.url.replace(/:(\w+)/g, '{$1}');
    return { operation, shown: paths[path]?.[operation.method.toLowerCase()] };
  });
  let tagged = 0;
  for (const { operation, shown } of told) {
    const { answer, conditional = false } = operation;
    const header = shown?.responses[String(answer.status)]?.headers?.['ETag'];
    expect(header !== undefined, operation.id).toBe(answer.tagged !== undefined);
    const parameter = shown?.parameters?.find(({ name }) => name === 'If-Match');
    expect(parameter !== undefined, operation.id).toBe(conditional);
    expect(Object.keys(shown?.responses ?? {}).includes(String(CODES.precondition_failed.status))).toBe(conditional);
    tagged += answer.tagged === undefined ? 0 : 1;
  }
  expect(tagged).toBeGreaterThan(10);
});

test('every change of one key or tenant without a condition is in the list of exceptions', () => {
  const isChangeOfOne = ({ method, url }: { method: string; url: string }): boolean =>
    method !== 'GET' && /^\/v1\/(keys|tenants)\/:id|^\/v1\/self\//.test(url);
  const operations = allOperations(service.auth, service.config).filter(isChangeOfOne);
  expect(operations.length).toBeGreaterThan(9);
  expect(operations.filter(({ conditional }) => conditional !== true).map(({ id }) => id)).toEqual([]);
});
