/** Routes for tenants. Only keys of the system tenant may use them; any other key gets 404. */
import type { CreateTenantInput, PantheonAuth, UpdateTenantInput } from 'pantheon-auth';
import { z } from 'zod';
import { CHANGE_CODES, type Operation, operation } from '../../http/operation.ts';
import { idParams, ifMatchOf, omitUndefined, pageQuery, reasonBody } from '../../http/parameters.ts';
import { tenantPageSchema, tenantSchema } from './schemas.ts';

const answer = { status: 200, description: 'The tenant.', schema: tenantSchema, tagged: 'itself' } as const;

/** For the OpenAPI file only: the engine parses the body. */
const settings = {
  name: z.string().nullish().describe('A display name. 1 to 128 characters. Default: the id.'),
  audiences: z
    .array(z.string())
    .nullish()
    .describe(
      'Audiences that keys of the tenant may have in jwt.audience, in addition to those of the service. At most 64, each of 1 to 512 characters. Existing keys keep the audiences that they have.',
    ),
};
const id = z
  .string()
  .describe(
    'The id, which never changes. 1 to 64 characters of a-z, 0-9, _ and -; the first and the last are a letter or a digit.',
  );
const createBody = z.strictObject({ id, ...settings }).meta({
  id: 'CreateTenantInput',
  examples: [{ id: 'acme', name: 'Acme Corp', audiences: ['https://orders.acme.example'] }],
});
const updateBody = z
  .strictObject(settings)
  .meta({ id: 'UpdateTenantInput', examples: [{ audiences: ['https://orders.acme.example'] }] });

export function tenantOperations({ tenants }: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'POST',
      url: '/v1/tenants',
      id: 'createTenant',
      tag: 'Tenants',
      summary: 'Create a tenant.',
      access: { kind: 'key', action: 'tenants.create' },
      body: createBody,
      hasLists: true,
      bodyIsReadByEngine: true,
      answer: { ...answer, status: 201 },
      codes: ['already_exists', ...CHANGE_CODES],
      handle: ({ body, by }) => tenants.create(body as CreateTenantInput, { by: by.caller }),
    }),
    operation({
      method: 'GET',
      url: '/v1/tenants',
      id: 'listTenants',
      tag: 'Tenants',
      summary: 'List tenants, ordered by id.',
      access: { kind: 'key', action: 'tenants.read' },
      query: z.strictObject(pageQuery),
      answer: { status: 200, description: 'A page of tenants.', schema: tenantPageSchema },
      codes: ['invalid_cursor', 'overloaded'],
      handle: async ({ query, by }) => {
        const page = await tenants.list(omitUndefined(query), { by: by.caller });
        return { ...page, items: page.items.map((item) => ({ ...item, createdAt: new Date(item.createdAt) })) };
      },
    }),
    operation({
      method: 'GET',
      url: '/v1/tenants/:id',
      id: 'getTenant',
      tag: 'Tenants',
      summary: 'Get a tenant.',
      access: { kind: 'key', action: 'tenants.read' },
      params: idParams,
      answer,
      codes: ['overloaded'],
      handle: ({ params, by }) => tenants.get(params.id, { by: by.caller }),
    }),
    operation({
      method: 'PATCH',
      url: '/v1/tenants/:id',
      id: 'updateTenant',
      tag: 'Tenants',
      summary: 'Update a tenant. Members that are not sent stay as they are; null removes a member.',
      access: { kind: 'key', action: 'tenants.update' },
      params: idParams,
      conditional: true,
      body: updateBody,
      hasLists: true,
      bodyIsReadByEngine: true,
      answer,
      codes: CHANGE_CODES,
      handle: ({ params, body, by, request }) =>
        tenants.update(params.id, body as UpdateTenantInput, { ...ifMatchOf(request), by: by.caller }),
    }),
    operation({
      method: 'POST',
      url: '/v1/tenants/:id/suspend',
      id: 'suspendTenant',
      tag: 'Tenants',
      summary: 'Suspend a tenant: all its keys are denied until it is resumed. Idempotent.',
      access: { kind: 'key', action: 'tenants.suspend' },
      params: idParams,
      conditional: true,
      body: reasonBody,
      answer,
      codes: ['not_allowed', ...CHANGE_CODES],
      handle: ({ params, body, by, request }) =>
        tenants.suspend(params.id, { ...omitUndefined(body), ...ifMatchOf(request), by: by.caller }),
    }),
    operation({
      method: 'POST',
      url: '/v1/tenants/:id/resume',
      id: 'resumeTenant',
      tag: 'Tenants',
      summary: 'Resume a suspended tenant. Idempotent.',
      access: { kind: 'key', action: 'tenants.suspend' },
      params: idParams,
      conditional: true,
      body: reasonBody,
      answer,
      codes: ['not_allowed', ...CHANGE_CODES],
      handle: ({ params, body, by, request }) =>
        tenants.resume(params.id, { ...omitUndefined(body), ...ifMatchOf(request), by: by.caller }),
    }),
    operation({
      method: 'DELETE',
      url: '/v1/tenants/:id',
      id: 'deleteTenant',
      tag: 'Tenants',
      summary: 'Delete a tenant. Final: its keys are unknown from then on, and its id cannot be used again.',
      access: { kind: 'key', action: 'tenants.delete' },
      params: idParams,
      conditional: true,
      body: reasonBody,
      answer,
      codes: ['not_allowed', ...CHANGE_CODES],
      handle: ({ params, body, by, request }) =>
        tenants.delete(params.id, { ...omitUndefined(body), ...ifMatchOf(request), by: by.caller }),
    }),
  ];
}
