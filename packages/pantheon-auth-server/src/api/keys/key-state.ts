/** Routes that suspend, resume and revoke a key. Each is idempotent. */
import type { PantheonAuth } from 'pantheon-auth';
import { z } from 'zod';
import { CHANGE_CODES, type Operation, operation } from '../../http/operation.ts';
import {
  cascadeFlag,
  forceFlag,
  idParams,
  ifMatchOf,
  omitUndefined,
  reasonBody,
  settleFlag,
} from '../../http/parameters.ts';
import { changedKeySchema, revokedKeySchema } from './schemas.ts';

export function keyStateOperations(auth: PantheonAuth): readonly Operation[] {
  return [
    operation({
      method: 'POST',
      url: '/v1/keys/:id/revoke',
      id: 'revokeKey',
      tag: 'Keys',
      summary: 'Revoke a key and every token made from it. Final. Idempotent.',
      access: { kind: 'key', action: 'keys.revoke' },
      params: idParams,
      conditional: true,
      query: z.strictObject({
        cascade: cascadeFlag,
        force: forceFlag,
        settle: settleFlag,
      }),
      body: reasonBody,
      answer: { status: 200, description: 'The record.', schema: revokedKeySchema, tagged: 'itself' },
      codes: ['last_administrator', 'version_conflict', 'key_quarantined', 'overloaded', ...CHANGE_CODES],
      handle: ({ params, query, body, by, request }) => {
        const options = { ...omitUndefined(query), ...omitUndefined(body), ...ifMatchOf(request), by: by.caller };
        return auth.tenant(by.tenantId).keys.revoke(params.id, options);
      },
    }),
    operation({
      method: 'POST',
      url: '/v1/keys/:id/suspend',
      id: 'suspendKey',
      tag: 'Keys',
      summary: 'Suspend a key: it is denied until it is resumed. Idempotent.',
      access: { kind: 'key', action: 'keys.update' },
      params: idParams,
      conditional: true,
      query: z.strictObject({ force: forceFlag, settle: settleFlag }),
      body: reasonBody,
      answer: { status: 200, description: 'The record.', schema: changedKeySchema, tagged: 'itself' },
      codes: [
        'key_revoked',
        'last_administrator',
        'version_conflict',
        'key_quarantined',
        'overloaded',
        ...CHANGE_CODES,
      ],
      handle: ({ params, query, body, by, request }) => {
        const options = { ...omitUndefined(query), ...omitUndefined(body), ...ifMatchOf(request), by: by.caller };
        return auth.tenant(by.tenantId).keys.suspend(params.id, options);
      },
    }),
    operation({
      method: 'POST',
      url: '/v1/keys/:id/resume',
      id: 'resumeKey',
      tag: 'Keys',
      summary: 'Resume a suspended key. A revoked key cannot be resumed.',
      access: { kind: 'key', action: 'keys.update' },
      params: idParams,
      conditional: true,
      query: z.strictObject({ settle: settleFlag }),
      body: reasonBody,
      answer: { status: 200, description: 'The record.', schema: changedKeySchema, tagged: 'itself' },
      codes: ['not_grantable', 'key_revoked', 'key_quarantined', 'overloaded', ...CHANGE_CODES],
      handle: ({ params, query, body, by, request }) => {
        const options = { ...omitUndefined(query), ...omitUndefined(body), ...ifMatchOf(request), by: by.caller };
        return auth.tenant(by.tenantId).keys.resume(params.id, options);
      },
    }),
  ];
}
