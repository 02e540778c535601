import { describe, expect, test } from 'vitest';
import { type EventAbout, eventAbout, PROCESS_ACTOR, type RecordedEvent } from './event.ts';
import { evolveSigningKey, retiredSigningKey, type SigningKeyRecord } from './signing-key.ts';

const AFTER = { algorithm: 'ES256', publicJwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' } };
const event = (type: string, at: number, after: RecordedEvent['after'] = null): EventAbout<'signing_key'> =>
  eventAbout('signing_key', {
    ...{ id: 'e', at, tenantId: 'system', type, subject: { type: 'signing_key', id: 'kid-1' } },
    ...{ actor: PROCESS_ACTOR, requestId: null, reason: null, before: null, after },
  });
const replay = (...events: readonly EventAbout<'signing_key'>[]): SigningKeyRecord | null =>
  events.reduce<SigningKeyRecord | null>(evolveSigningKey, null);
const created = event('signing_key.created', 1_000, AFTER);

describe('replaying the events of a signing key gives its record', () => {
  test('created, then retired', () => {
    const record = { kid: 'kid-1', ...AFTER, createdAt: 1_000, signsFrom: 1_000, retiredAt: null, revision: 1 };
    expect(replay(created)).toEqual(record);
    expect(replay(created, event('signing_key.retired', 2_000))).toEqual({ ...record, retiredAt: 2_000, revision: 2 });
  });

  test('created as a standby key, then made to sign', () => {
    const waiting = event('signing_key.created', 1_000, { ...AFTER, signsFrom: null });
    expect(replay(waiting)).toMatchObject({ signsFrom: null });
    const activated = event('signing_key.activated', 2_000, { signsFrom: new Date(5_000).toISOString() });
    expect(replay(waiting, activated)).toMatchObject({ signsFrom: 5_000, revision: 2 });
    const later = event('signing_key.created', 1_000, { ...AFTER, signsFrom: new Date(9_000).toISOString() });
    expect(replay(later)).toMatchObject({ signsFrom: 9_000 });
  });

  test('retired again, it keeps the time of the first retirement', () => {
    const twice = [event('signing_key.retired', 2_000), event('signing_key.retired', 9_000)];
    expect(replay(created, ...twice)).toMatchObject({ retiredAt: 2_000, revision: 3 });
  });

  test.each([
    ['twice', [created, created]],
    ['without its public key', [event('signing_key.created', 1)]],
    ['late', [event('signing_key.retired', 1)]],
  ] as const)('an event that comes %s stops the replay', (_how, events) => {
    expect(() => replay(...events)).toThrow('Invariant broken');
  });

  test.each(['key.revoked', 'signing_key.moved'])(
    '%s is not an event of a signing key, and stops the replay',
    (type) => {
      expect(() => replay(created, event(type, 1))).toThrow(`Not an event of a signing key: ${type}`);
    },
  );
});

test.each([9_223_372_036_854_775_807n, -9_007_199_254_740_993n, Number.MAX_SAFE_INTEGER])(
  'a retirement replaces a revision that cannot be raised, %s, by the time',
  (revision) => {
    expect(retiredSigningKey({ retiredAt: null, revision }, 7_000)).toEqual({ retiredAt: 7_000, revision: 7_000 });
  },
);
