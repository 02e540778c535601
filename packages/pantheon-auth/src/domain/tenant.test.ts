import { describe, expect, test } from 'vitest';
import { type EventAbout, eventAbout, PROCESS_ACTOR, type RecordedEvent } from './event.ts';
import { DEFAULT_TENANT, evolveTenant, SYSTEM_TENANT, type TenantRecord } from './tenant.ts';
import { TENANT_ID_PATTERN } from './tenant-id.ts';

const event = (type: string, after: RecordedEvent['after'] = null): EventAbout<'tenant'> =>
  eventAbout('tenant', {
    ...{ id: 'e', at: 1_000, tenantId: 'acme', type, subject: { type: 'tenant', id: 'acme' } },
    ...{ actor: PROCESS_ACTOR, requestId: null, reason: null, before: null, after },
  });
const replay = (...events: readonly EventAbout<'tenant'>[]): TenantRecord =>
  events.reduce<TenantRecord | null>(evolveTenant, null) as TenantRecord;

const created = event('tenant.created', { name: 'Acme' });

describe('replaying the events of a tenant gives its record', () => {
  test.each([
    ['created', [created], { id: 'acme', name: 'Acme', state: 'active', createdAt: 1_000, revision: 1 }],
    ['renamed', [created, event('tenant.updated', { name: 'New' })], { name: 'New', revision: 2 }],
    ['suspended', [created, event('tenant.suspended')], { state: 'suspended', revision: 2 }],
    ['resumed', [created, event('tenant.suspended'), event('tenant.resumed')], { state: 'active', revision: 3 }],
    ['deleted', [created, event('tenant.deleted')], { state: 'deleted', revision: 2 }],
  ] as const)('%s', (_what, events, expected) => {
    expect(replay(...events)).toMatchObject(expected);
  });

  test.each(['tenant.resumed', 'tenant.suspended', 'tenant.updated'] as const)(
    '%s does not restore a deleted tenant',
    (type) => {
      expect(replay(created, event('tenant.deleted'), event(type))).toMatchObject({ state: 'deleted', revision: 3 });
    },
  );

  test('an event of a type that only a later version knows does not restore it either', () => {
    expect(replay(created, event('tenant.deleted'), event('tenant.moved'))).toMatchObject({
      ...{ state: 'deleted', revision: 3 },
    });
  });

  test('after a name was erased, the name is the id, or the previous name', () => {
    expect(replay(event('tenant.created'))).toMatchObject({ name: 'acme' });
    expect(replay(created, event('tenant.updated', {}))).toMatchObject({ name: 'Acme' });
  });

  test.each([
    ['twice', () => replay(created, created)],
    ['late', () => replay(event('tenant.suspended'))],
    ['of another subject', () => replay(created, event('key.revoked'))],
    ['from a later version', () => replay(created, event('tenant.moved'))],
  ])('an event that comes %s stops the replay', (_how, run) => {
    expect(run).toThrow();
  });
});

test.each([SYSTEM_TENANT, DEFAULT_TENANT, 'a', 'a-b_c', '0', 'x'.repeat(64)])('%s may be the id of a tenant', (id) => {
  expect(TENANT_ID_PATTERN.test(id)).toBe(true);
});

test.each(['', 'A', '-a', 'a-', '_a', 'a.b', 'a/b', '..', 'a\n', 'a b', 'é', 'x'.repeat(65)])('%j may not', (id) => {
  expect(TENANT_ID_PATTERN.test(id)).toBe(false);
});
