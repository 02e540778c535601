/** Usage of keys: counts by outcome and time. */
import { type Clock, type PantheonAuth, PantheonError, type UsageGranularity, type UsageReport } from 'pantheon-auth';
import { z } from 'zod';
import { type Operation, operation } from '../../http/operation.ts';
import { idParams } from '../../http/parameters.ts';
import { usageSchema } from './schemas.ts';

const time = z.iso.datetime({ offset: true, error: 'Write an ISO 8601 time such as 2030-01-31T00:00:00Z.' });

const usageQuery = z.strictObject({
  from: time.optional().describe('Default: one day before `to`.'),
  to: time.optional().describe('Default: now.'),
  granularity: z.enum(['minute', 'hour', 'day']).default('hour'),
});

const RANGE_DEFAULT_MS = 86_400_000;

export function usageOperations(auth: PantheonAuth, clock: Clock): readonly Operation[] {
  return [
    operation({
      method: 'GET',
      url: '/v1/keys/:id/usage',
      id: 'getKeyUsage',
      tag: 'Usage',
      summary: 'Get the usage of a key, by outcome and time.',
      access: { kind: 'key', action: 'keys.read' },
      params: idParams,
      query: usageQuery,
      answer: {
        status: 200,
        description: 'Counts per time step. Steps without uses are left out.',
        schema: usageSchema,
      },
      codes: ['key_quarantined', 'overloaded'],
      handle: async ({ params, query, by, request }) => {
        const options = { by: by.caller, signal: request.signal };
        return toWire(await auth.tenant(by.tenantId).keys.usage(params.id, toRange(query, clock), options));
      },
    }),
    operation({
      method: 'GET',
      url: '/v1/usage',
      id: 'getUsage',
      tag: 'Usage',
      summary: 'Get the usage of all keys of the tenant, by outcome and time.',
      access: { kind: 'key', action: 'keys.read' },
      query: usageQuery,
      answer: {
        status: 200,
        description: 'Counts per time step. Steps without uses are left out.',
        schema: usageSchema,
      },
      codes: ['overloaded'],
      handle: async ({ query, by, request }) => {
        const options = { by: by.caller, signal: request.signal };
        return toWire(await auth.tenant(by.tenantId).keys.usage(null, toRange(query, clock), options));
      },
    }),
  ];
}

function toRange(query: z.output<typeof usageQuery>, clock: Clock): Range {
  const to = query.to === undefined ? clock.now() : Date.parse(query.to);
  const from = query.from === undefined ? to - RANGE_DEFAULT_MS : Date.parse(query.from);
  if (from >= to) throw new PantheonError('invalid_request', { field: 'to', detail: 'It must be later than `from`.' });
  return { from, to, granularity: query.granularity };
}

interface Range {
  readonly from: number;
  readonly to: number;
  readonly granularity: UsageGranularity;
}

function toWire({ items }: UsageReport): unknown {
  return { items: items.map(({ from, outcomes }) => ({ from: new Date(from), outcomes })) };
}
