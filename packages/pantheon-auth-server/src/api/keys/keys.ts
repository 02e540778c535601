/**
 * Routes that create, list, get and update keys. Suspending and revoking are in `key-state.ts`, versions in
 * `key-versions.ts`.
 */
import { type CreateKeyInput, KEY_INPUT_SCHEMAS, type PantheonAuth, type UpdateKeyInput } from 'pantheon-auth';
import { z } from 'zod';
import { CHANGE_CODES, type Operation, operation } from '../../http/operation.ts';
import {
  forceFlag,
  idempotencyHeader,
  idempotencyKeyOf,
  idParams,
  ifMatchOf,
  omitUndefined,
  pageQuery,
  settleFlag,
} from '../../http/parameters.ts';
import { type Config, pathOf } from '../../settings/config.ts';
import { apiKeySchema, changedKeySchema, createdKeySchema, keyPageSchema } from './schemas.ts';

export function keyOperations(auth: PantheonAuth, config: Pick<Config, 'publicUrl'>): readonly Operation[] {
  return [
    operation({
      method: 'POST',
      url: '/v1/keys',
      id: 'createKey',
      tag: 'Keys',
      summary: 'Create a key. The answer contains the key string, which is not stored and not shown again.',
      access: { kind: 'key', action: 'keys.create' },
      headers: idempotencyHeader,
      body: KEY_INPUT_SCHEMAS.create.meta({ id: 'CreateKeyInput', examples: [CREATE_EXAMPLE] }),
      hasLists: true,
      bodyIsReadByEngine: true,
      answer: {
        status: 201,
        description: 'The key string and its record.',
        schema: createdKeySchema,
        headers: { Location: 'The address of the record.' },
        tagged: 'apiKey',
      },
      codes: [
        'not_grantable',
        'not_allowed',
        'already_claimed',
        'too_many_keys',
        'idempotency_mismatch',
        ...CHANGE_CODES,
      ],
      handle: async ({ body, by, request, reply }) => {
        const created = await auth
          .tenant(by.tenantId)
          .keys.create(body as CreateKeyInput, { ...idempotencyKeyOf(request), by: by.caller });
        reply.header('location', `${pathOf(config)}/v1/keys/${created.apiKey.id}`);
        return created;
      },
    }),
    operation({
      method: 'GET',
      url: '/v1/keys',
      id: 'listKeys',
      tag: 'Keys',
      summary: 'List keys, newest first.',
      access: { kind: 'key', action: 'keys.read' },
      query: z.strictObject({
        userId: z.string().optional(),
        state: z.enum(['active', 'suspended', 'revoked', 'expired']).optional(),
        environment: z.enum(['live', 'test']).optional(),
        q: z.string().optional().describe('Part of the name, or the beginning of an id.'),
        ...pageQuery,
      }),
      answer: { status: 200, description: 'A page of keys.', schema: keyPageSchema },
      codes: ['invalid_cursor', 'overloaded'],
      handle: async ({ query, by, request }) => {
        const { signal } = request;
        const page = await auth.tenant(by.tenantId).keys.list(omitUndefined(query), { by: by.caller, signal });
        return { ...page, items: page.items.map(toItem) };
      },
    }),
    operation({
      method: 'GET',
      url: '/v1/keys/:id',
      id: 'getKey',
      tag: 'Keys',
      summary: 'Get a key.',
      access: { kind: 'key', action: 'keys.read' },
      params: idParams,
      answer: { status: 200, description: 'The record.', schema: apiKeySchema, tagged: 'itself' },
      codes: ['key_quarantined', 'overloaded'],
      handle: ({ params, by }) => auth.tenant(by.tenantId).keys.get(params.id, { by: by.caller }),
    }),
    operation({
      method: 'PATCH',
      url: '/v1/keys/:id',
      id: 'updateKey',
      tag: 'Keys',
      summary:
        'Update a key (JSON merge patch, RFC 7396). Members that are not sent stay as they are, also inside objects; null removes a member.',
      access: { kind: 'key', action: 'keys.update' },
      params: idParams,
      conditional: true,
      query: z.strictObject({ force: forceFlag, settle: settleFlag }),
      body: KEY_INPUT_SCHEMAS.update.meta({ id: 'UpdateKeyInput', examples: [{ name: 'deploy', expiresIn: '90d' }] }),
      hasLists: true,
      bodyIsReadByEngine: true,
      answer: { status: 200, description: 'The record after the change.', schema: changedKeySchema, tagged: 'itself' },
      codes: [
        'not_grantable',
        'not_allowed',
        'key_revoked',
        'last_administrator',
        'version_conflict',
        'key_quarantined',
        'overloaded',
        ...CHANGE_CODES,
      ],
      handle: ({ params, query, body, by, request }) => {
        const options = { ...omitUndefined(query), ...ifMatchOf(request), by: by.caller };
        return auth.tenant(by.tenantId).keys.update(params.id, body as UpdateKeyInput, options);
      },
    }),
  ];
}

const CREATE_EXAMPLE = {
  userId: 'user-1',
  name: 'deploy',
  permissions: ['deploy:run'],
  expiresIn: '90d',
  rateLimits: [{ name: 'burst', limit: 100, window: '1m' }],
} as const;

type Listed = Awaited<ReturnType<PantheonAuth['keys']['list']>>['items'][number];

/** Also for a quarantined key, which has `createdAt` only. */
function toItem(item: Listed): unknown {
  return 'quarantined' in item ? { ...item, createdAt: new Date(item.createdAt) } : item;
}
