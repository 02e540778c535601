import fc, { type Arbitrary } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DAY_MS, HOUR_MS, type Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { ID_PATTERN } from '../foundation/ids.ts';
import { anyCircumstances, anyEvent, anyKeyRecord, anyKeySettings } from '../testing/arbitraries.ts';
import {
  type AuditContext,
  type EventAbout,
  eventAbout,
  joinEvent,
  PROCESS_ACTOR,
  type RecordedEvent,
  splitEvent,
} from './event.ts';
import {
  createKey,
  evolve,
  isActive,
  type KeyChange,
  type KeyEvent,
  type KeyRecord,
  type KeySettings,
  replaceSecret,
  resumeKey,
  retireVersion,
  revokeKey,
  revokeTokens,
  rollBackKey,
  rotateKey,
  suspendKey,
  updateKey,
  VERSIONS_KEPT_MAX,
  versionState,
} from './key.ts';
import { previousVersion } from './key-versions.ts';
import { decide } from './verification.ts';

const START = Date.UTC(2030, 0, 1);
const BY: AuditContext = { actor: PROCESS_ACTOR, requestId: 'r', reason: 'because' };
const SETTINGS: KeySettings = {
  ...{ userId: 'u', name: 'n', description: null, environment: 'live', permissions: ['a:*'], grantable: [] },
  ...{ notBefore: null, expiresAt: null, rateLimits: [], quota: null, ipAllowlist: [], rotation: null, jwt: null },
  metadata: { b: 1, a: { d: 1, c: 2 } },
};
const create = (settings: KeySettings = SETTINGS, by = BY): KeyChange =>
  createKey({ id: '0123456789abcdef', tenantId: 'default', createdBy: null, idTag: 1, settings }, by, START);
const KEY = create().record;

type Attempt = (record: KeyRecord, at: Instant) => KeyChange | null;

/** Everything that can be asked of a key. */
const anyAttempt: Arbitrary<Attempt> = fc.oneof(
  fc.tuple(anyKeySettings, anyCircumstances).map(
    ([settings, by]): Attempt =>
      (r, at) =>
        updateKey(r, settings, by, at),
  ),
  anyCircumstances.map(
    (by): Attempt =>
      (record, at) =>
        suspendKey(record, by, at),
  ),
  anyCircumstances.map(
    (by): Attempt =>
      (record, at) =>
        resumeKey(record, by, at),
  ),
  anyCircumstances.map(
    (by): Attempt =>
      (record, at) =>
        revokeTokens(record, by, at),
  ),
  anyCircumstances.map(
    (by): Attempt =>
      (record, at) =>
        replaceSecret(record, by, at),
  ),
  fc.nat(10).map(
    (version): Attempt =>
      (record, at) =>
        retireVersion(record, version, BY, at),
  ),
  fc.constant<Attempt>((record, at) => rollBackKey(record, BY, at)),
  fc.tuple(fc.nat(3 * DAY_MS), fc.boolean(), fc.boolean()).map(
    ([ms, knows, retireOnFirstUse]): Attempt =>
      (record, at) => {
        const expectedVersion = knows ? record.version : null;
        return rotateKey(record, { acceptedUntil: at + ms, expectedVersion, retireOnFirstUse }, BY, at);
      },
  ),
);
const anyRevoke: Arbitrary<Attempt> = anyCircumstances.map(
  (by): Attempt =>
    (record, at) =>
      revokeKey(record, by, at),
);
const anyHistory = fc.array(fc.tuple(fc.oneof({ weight: 20, arbitrary: anyAttempt }, anyRevoke), fc.nat(DAY_MS)), {
  maxLength: 30,
});

/** Runs a history; what is refused with a code changes nothing. Answers all changes, the creation first. */
function live(first: KeyChange, history: readonly (readonly [Attempt, number])[]): KeyChange[] {
  const changes = [first];
  let record = first.record;
  let at = START;
  for (const [attempt, ms] of history) {
    at += ms;
    try {
      const change = attempt(record, at);
      if (change === null) continue;
      changes.push(change);
      record = change.record;
    } catch (error) {
      if (!(error instanceof PantheonError)) throw error;
    }
  }
  return changes;
}

const eventsOf = (changes: readonly KeyChange[]): KeyEvent[] => changes.flatMap(({ events }) => [...events]);
const replay = (events: readonly EventAbout<'key'>[]): KeyRecord | null =>
  events.reduce<KeyRecord | null>(evolve, null);
/** As it would be read back if it had said something else. */
const altered = ({ events: [event] }: KeyChange, changes: Partial<RecordedEvent>): EventAbout<'key'> =>
  eventAbout('key', { ...event, ...changes });
const lastOf = (changes: readonly KeyChange[]): KeyRecord => (changes.at(-1) as KeyChange).record;
const TENANT = { id: 'default', name: 'default', state: 'active', audiences: null, createdAt: 0, revision: 1 } as const;
const DEMAND = { tenantId: null, environment: null, address: null, permissions: [] };

describe('whatever happens to a key', () => {
  test('replaying its events, as they are stored, gives its record (I3)', () => {
    fc.assert(
      fc.property(anyKeySettings, anyCircumstances, anyHistory, (settings, by, history) => {
        const changes = live(create(settings, by), history);
        const stored = eventsOf(changes).map((event, index) => {
          const { open, personal } = splitEvent(event);
          const [said, sealed] = [JSON.parse(JSON.stringify(open)), JSON.parse(JSON.stringify(personal))];
          return eventAbout('key', joinEvent(said, sealed, index + 1));
        });
        expect(replay(stored)).toEqual(lastOf(changes));
      }),
    );
  });

  test('replaying the events after erasure gives every deciding fact', () => {
    fc.assert(
      fc.property(anyKeySettings, anyHistory, (settings, history) => {
        const changes = live(create(settings), history);
        const open = eventsOf(changes).map((event) =>
          eventAbout('key', joinEvent(JSON.parse(JSON.stringify(splitEvent(event).open)), null, 1)),
        );
        const { state, ...record } = lastOf(changes);
        // Erased is never "from anywhere": the key then opens from nowhere.
        const nowhere = ['255.255.255.255/32'];
        const erased = { userId: '', name: '', description: null, metadata: null, jwt: null, ipAllowlist: nowhere };
        const { state: left, ...rest } = replay(open) as KeyRecord;
        expect(rest).toEqual({ ...record, ...erased });
        expect(left).toEqual(state.kind === 'active' ? state : { ...state, reason: null });
      }),
    );
  });

  test('exactly one version is current, and a version number is never assigned twice (I13)', () => {
    fc.assert(
      fc.property(anyHistory, fc.nat(40 * DAY_MS), (history, later) => {
        let newest = 0;
        for (const { record, events } of live(create(), history)) {
          const states = record.versions.map((version) => versionState(version, START + later));
          expect(states.filter((state) => state === 'current')).toHaveLength(1);
          const numbers = record.versions.map(({ version }) => version);
          expect(numbers[states.indexOf('current')]).toBe(record.version);
          expect(numbers).toEqual([...new Set(numbers)].toSorted((one, other) => other - one));
          expect(numbers.length).toBeLessThanOrEqual(VERSIONS_KEPT_MAX);
          if (events[0].type === 'key.rotated') expect(record.version).toBe(newest + 1);
          newest = Math.max(newest, ...numbers);
        }
      }),
    );
  });

  test('at most one older version is accepted, and a retired one is never accepted again', () => {
    fc.assert(
      fc.property(anyHistory, (history) => {
        const ended = new Set<number>();
        for (const { record, events } of live(create(), history)) {
          const at = events[0].at;
          const states = new Map(record.versions.map((version) => [version.version, versionState(version, at)]));
          expect([...states.values()].filter((state) => state === 'accepted').length).toBeLessThanOrEqual(1);
          for (const version of ended) expect(states.get(version) ?? 'retired').toBe('retired');
          for (const [version, state] of states) if (state === 'retired') ended.add(version);
        }
      }),
    );
  });

  test('a revoked key stays revoked and is never accepted (I6)', () => {
    fc.assert(
      fc.property(anyHistory, anyHistory, (before, after) => {
        const dead = lastOf(live(create(), [...before, [(record, at) => revokeKey(record, BY, at), 0]]));
        for (const { record } of live({ ...create(), record: dead }, after)) {
          expect(record.state).toEqual(dead.state);
          for (const version of record.versions) {
            const facts = { record, tenant: TENANT, addresses: null };
            expect(decide(facts, version, DEMAND, START)).toEqual({ code: 'revoked' });
          }
        }
      }),
    );
  });

  test('an event that must not exist does not make a revoked key valid either', () => {
    fc.assert(
      fc.property(anyKeyRecord, fc.array(anyEvent), (record, events) => {
        const dead: KeyRecord = { ...record, state: { kind: 'revoked', at: START, reason: 'leaked' } };
        const known = events.map((event) => eventAbout('key', event)).filter(({ type }) => type !== 'unknown');
        const impossible = ['key.created', 'key.rotated', 'key.rolled_back'];
        const forged = known.filter(({ type }) => !impossible.includes(type));
        expect(forged.reduce(evolve, dead).state).toEqual(dead.state);
      }),
    );
  });

  test('each change names the revision it was made from, and makes the next', () => {
    fc.assert(
      fc.property(anyHistory, (history) => {
        for (const [index, { record, expectedRevision, events }] of live(create(), history).entries()) {
          expect(record.revision).toBe(index + 1);
          expect(expectedRevision).toBe(index === 0 ? null : index);
          expect(events).toHaveLength(1);
        }
      }),
    );
  });

  test('every event contains who, from where, why and when, and an id of its own', () => {
    fc.assert(
      fc.property(anyCircumstances, anyHistory, (by, history) => {
        const events = eventsOf(live(create(SETTINGS, by), history));
        expect(events[0]).toMatchObject({ ...by, at: START, type: 'key.created', tenantId: 'default' });
        expect(events.every(({ subject }) => subject.type === 'key' && subject.id === KEY.id)).toBe(true);
        expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
        expect(events.every(({ id }) => ID_PATTERN.test(id))).toBe(true);
      }),
    );
  });
});

describe('a new key', () => {
  test('is active, with version 1 as its current one', () => {
    expect(KEY).toEqual({
      ...SETTINGS,
      ...{ id: '0123456789abcdef', tenantId: 'default', createdAt: START, createdBy: null, state: { kind: 'active' } },
      ...{ tokensNotBefore: null, version: 1, revision: 1, idTag: 1 },
      versions: [{ version: 1, createdAt: START, acceptedUntil: null }],
    });
  });

  test('records which key created it', () => {
    const id = 'child0000000child'.slice(0, 16);
    const key = { id, tenantId: 'default', createdBy: KEY.id, idTag: 1, settings: SETTINGS };
    expect(createKey(key, BY, START).record.createdBy).toBe(KEY.id);
  });

  test('records which secret tagged its id; a key from before tags has none', () => {
    const created: RecordedEvent = create().events[0];
    expect(evolve(null, eventAbout('key', created)).idTag).toBe(1);
    const { idTag: _, ...before } = created.after ?? {};
    expect(evolve(null, altered(create(), { after: before })).idTag).toBeNull();
  });

  test('is created once, with its settings', () => {
    const [event] = create().events;
    expect(() => evolve(KEY, event)).toThrow('Invariant broken');
    expect(() => evolve(null, altered(create(), { after: null }))).toThrow('Invariant broken');
    expect(() => evolve(null, altered(create(), { type: 'key.revoked' }))).toThrow('Invariant broken');
  });
});

describe('updating', () => {
  test('records what changed, before and after, and nothing else', () => {
    const change = updateKey(KEY, { ...SETTINGS, name: 'new', expiresAt: START + HOUR_MS }, BY, START);
    expect(change?.events[0]).toMatchObject({
      before: { name: 'n', expiresAt: null },
      after: { name: 'new', expiresAt: '2030-01-01T01:00:00.000Z' },
    });
    expect(change?.record).toEqual({ ...KEY, name: 'new', expiresAt: START + HOUR_MS, revision: 2 });
  });

  test('to the same values is no change, in whatever order members are sent', () => {
    expect(updateKey(KEY, { ...SETTINGS, metadata: { a: { c: 2, d: 1 }, b: 1 } }, BY, START)).toBeNull();
    fc.assert(
      fc.property(anyKeySettings, (settings) => updateKey(create(settings).record, settings, BY, START) === null),
    );
  });

  test('the order of a list is a change: the first audience is the default', () => {
    const jwt = { algorithm: 'ES256', audience: ['a', 'b'], customClaims: {}, ttlSeconds: 60 } as const;
    const key = create({ ...SETTINGS, jwt }).record;
    expect(updateKey(key, { ...SETTINGS, jwt: { ...jwt, audience: ['b', 'a'] } }, BY, START)).not.toBeNull();
  });
});

describe('repeated', () => {
  const suspended = (suspendKey(KEY, BY, START) as KeyChange).record;
  const revoked = (revokeKey(KEY, BY, START) as KeyChange).record;

  test.each([
    ['suspend', () => suspendKey(suspended, BY, START)],
    ['resume', () => resumeKey(KEY, BY, START)],
    ['revoke', () => revokeKey(revoked, BY, START)],
  ])('%s succeeds, and writes no second event', (_what, again) => {
    expect(again()).toBeNull();
  });

  test('a suspension and its end say when and why', () => {
    expect(suspended.state).toEqual({ kind: 'suspended', at: START, reason: 'because' });
    expect(resumeKey(suspended, BY, START)?.record.state).toEqual({ kind: 'active' });
    expect(revokeKey(suspended, BY, START)?.events[0]).toMatchObject({ before: { state: 'suspended' } });
  });

  test.each([
    ['update', () => updateKey(revoked, { ...SETTINGS, name: 'x' }, BY, START)],
    ['suspend', () => suspendKey(revoked, BY, START)],
    ['resume', () => resumeKey(revoked, BY, START)],
    ['rotate', () => rotateKey(revoked, { acceptedUntil: START, expectedVersion: 1 }, BY, START)],
    ['replace the secret of', () => replaceSecret(revoked, BY, START)],
  ])('%s a revoked key is refused', (_what, attempt) => {
    expect(attempt).toThrow(expect.objectContaining({ code: 'key_revoked' }));
  });

  test('the tokens of a key are revoked, and the key stays valid', () => {
    const { record } = revokeTokens(KEY, BY, START + 5);
    expect(record).toEqual({ ...KEY, tokensNotBefore: START + 5, revision: 2 });
  });

  test('revoked tokens stay revoked, also if the next revocation is made with an earlier clock', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: START - DAY_MS, max: START + DAY_MS }), { minLength: 1 }), (instants) => {
        const history = instants.map((at): [Attempt, number] => [(record) => revokeTokens(record, BY, at), 0]);
        const [, ...changes] = live(create(), history);
        const bounds = changes.map(({ record }) => record.tokensNotBefore ?? 0);
        expect(bounds).toEqual(bounds.toSorted((one, other) => one - other));
        expect(bounds.at(-1)).toBe(Math.max(...instants));
        const [first] = create().events;
        expect(replay([first, ...eventsOf(changes)])).toEqual(lastOf(changes));
        // What the log shows is what holds.
        const said: readonly RecordedEvent[] = eventsOf(changes);
        const shown = said.map(({ after }) => Date.parse(String(after?.['tokensNotBefore'])));
        expect(shown).toEqual(bounds);
      }),
    );
  });

  test('an event about a key that was found in a URL changes nothing of it', () => {
    expect(evolve(KEY, altered(create(), { type: 'key.exposed_in_url' }))).toBe(KEY);
  });

  test('an event of another subject, or of a later version, stops the replay', () => {
    for (const type of ['tenant.suspended', 'key.absorbed'])
      expect(() => evolve(KEY, altered(create(), { type }))).toThrow(type);
  });
});

describe('rotation', () => {
  const until = START + HOUR_MS;
  const rotated = rotateKey(KEY, { acceptedUntil: until, expectedVersion: null }, BY, START).record;

  test('keeps the key and all its settings', () => {
    const { version, versions, revision, ...kept } = rotated;
    expect(KEY).toMatchObject(kept);
    expect([version, revision, versions.length]).toEqual([2, 2, 2]);
  });

  test('accepts the previous version until the overlap ends, to the millisecond', () => {
    const [current, before] = rotated.versions;
    expect(current && versionState(current, until + DAY_MS)).toBe('current');
    expect(before && versionState(before, until - 1)).toBe('accepted');
    expect(before && versionState(before, until)).toBe('retired');
  });

  test('without an overlap retires the previous version at once', () => {
    const { record } = rotateKey(KEY, { acceptedUntil: START, expectedVersion: null }, BY, START);
    expect(record.versions[1] && versionState(record.versions[1], START)).toBe('retired');
  });

  test('is refused while an older version is accepted, unless the caller names the current one', () => {
    const rotate = (expectedVersion: number | null, at: Instant): KeyRecord =>
      rotateKey(rotated, { acceptedUntil: at + HOUR_MS, expectedVersion }, BY, at).record;
    expect(() => rotate(null, until - 1)).toThrow(expect.objectContaining({ code: 'rotation_in_progress' }));
    expect(() => rotate(1, until - 1)).toThrow(
      expect.objectContaining({ code: 'version_conflict', field: 'expectedVersion' }),
    );
    expect(rotate(null, until).version).toBe(3);
    const [, second, first] = rotate(2, until - 10).versions;
    expect([second?.acceptedUntil, first?.acceptedUntil]).toEqual([until - 10 + HOUR_MS, until - 10]);
  });

  test('deletes versions beyond the number that is kept', () => {
    let record = KEY;
    for (let turn = 0; turn < VERSIONS_KEPT_MAX; turn += 1) {
      record = rotateKey(record, { acceptedUntil: START, expectedVersion: null }, BY, START).record;
    }
    expect(record.versions.map(({ version }) => version)).toEqual([9, 8, 7, 6, 5, 4, 3, 2]);
    expect(() => retireVersion(record, 1, BY, START)).toThrow(expect.objectContaining({ code: 'not_found' }));
  });

  test('an older version can be retired early, and retiring it twice succeeds', () => {
    const change = retireVersion(rotated, 1, BY, until - 10) as KeyChange;
    expect(change.record.versions[1]).toMatchObject({ version: 1, acceptedUntil: until - 10 });
    expect(retireVersion(change.record, 1, BY, until - 10)).toBeNull();
    expect(retireVersion(rotated, 1, BY, until)).toBeNull();
  });

  test('the current version cannot be retired', () => {
    expect(() => retireVersion(rotated, 2, BY, START)).toThrow(expect.objectContaining({ code: 'version_conflict' }));
  });

  test('replacing a secret keeps the version', () => {
    const { record } = replaceSecret(rotated, BY, START + 7);
    expect(record.versions).toEqual([{ ...rotated.versions[0], createdAt: START + 1_000 }, rotated.versions[1]]);
    expect(record.version).toBe(2);
  });

  test('a replaced secret is dated in a later second than the previous one, whatever the clock says, within a bound', () => {
    const dateOf = ({ versions }: KeyRecord): Instant => versions[0]?.createdAt ?? 0;
    const made = dateOf(rotated);
    for (const at of [made - 5_000, made - 1, made, made + 1, made + 999]) {
      const { record } = replaceSecret(rotated, BY, at);
      expect(Math.floor(dateOf(record) / 1_000)).toBe(Math.floor(Math.max(at, made) / 1_000) + 1);
    }
    let record = rotated;
    const replaceAtOnce = (): void => {
      for (let turn = 0; turn < 20; turn += 1) record = replaceSecret(record, BY, START).record;
    };
    expect(replaceAtOnce).toThrow(expect.objectContaining({ code: 'conflict' }));
    expect(dateOf(record) - START).toBeLessThanOrEqual(6_000);
  });

  test('a replacement from the log of an earlier version is replayed as it was', () => {
    const record = evolve(rotated, altered(replaceSecret(rotated, BY, START + 7), { after: { version: 2 } }));
    expect(record.versions[0]).toMatchObject({ version: 2, createdAt: START + 7 });
  });

  test.each([
    ['key_suspended', suspendKey(rotated, BY, START)?.record],
    ['key_revoked', revokeKey(rotated, BY, START)?.record],
    ['key_expired', { ...rotated, expiresAt: START }],
  ] as const)('%s: no new secret is created in any way', (code, record) => {
    if (record === undefined) throw new Error('a change has a record');
    const rotation = { acceptedUntil: until, expectedVersion: record.version };
    const refused = expect.objectContaining({ code });
    expect(() => rotateKey(record, rotation, BY, START)).toThrow(refused);
    expect(() => replaceSecret(record, BY, START)).toThrow(refused);
  });

  test('an event that skips a version stops the replay', () => {
    const change = rotateKey(KEY, { acceptedUntil: until, expectedVersion: null }, BY, START);
    const acceptedUntil = new Date(until).toISOString();
    for (const after of [{ version: 3, acceptedUntil }, { version: 2 }])
      expect(() => evolve(KEY, altered(change, { after }))).toThrow('Invariant broken');
  });
});

describe('isActive is true exactly when the key can be accepted, to the millisecond', () => {
  test.each([
    [{}, true],
    [{ expiresAt: START }, false],
    [{ expiresAt: START + 1 }, true],
    [{ notBefore: START }, true],
    [{ notBefore: START + 1 }, false],
    [{ state: { kind: 'suspended', at: 0, reason: null } }, false],
    [{ state: { kind: 'revoked', at: 0, reason: null } }, false],
  ] as const)('%j: %s', (changes, expected) => {
    expect(isActive({ ...KEY, ...changes }, START)).toBe(expected);
  });

  test('an active key with a current version is denied only for what a request asks for', () => {
    fc.assert(
      fc.property(anyKeyRecord, fc.nat(80 * 365 * DAY_MS), (record, ms) => {
        const now = Date.UTC(2020, 0, 1) + ms;
        const version = record.versions[0];
        if (version === undefined) throw new Error('a record has a current version');
        const denial = decide({ record, tenant: TENANT, addresses: null }, version, DEMAND, now);
        expect(denial === null).toBe(isActive(record, now));
      }),
    );
  });
});

describe('a rotation that is rolled back', () => {
  const until = START + HOUR_MS;
  const rotated = rotateKey(KEY, { acceptedUntil: until, expectedVersion: null }, BY, START).record;
  const rolledBack = rollBackKey(rotated, BY, START + 5);

  test('leaves the version before it current, and retires its own for ever', () => {
    const { record, events } = rolledBack;
    expect(events[0]).toMatchObject({ type: 'key.rolled_back', before: { version: 2 }, after: { version: 1 } });
    expect(record.version).toBe(1);
    const [rolledBackVersion, current] = record.versions;
    expect(rolledBackVersion).toMatchObject({ version: 2, acceptedUntil: START + 5 });
    expect(current && versionState(current, until + DAY_MS)).toBe('current');
    const [, retired] = rotateKey(record, { acceptedUntil: until, expectedVersion: null }, BY, START + 6).record
      .versions;
    expect(retired).toMatchObject({ version: 2, acceptedUntil: START + 5 });
  });

  test('does not give its number again', () => {
    const next = rotateKey(rolledBack.record, { acceptedUntil: until, expectedVersion: 1 }, BY, START + 6).record;
    expect(next.version).toBe(3);
    expect(previousVersion(next)).toMatchObject({ version: 1 });
  });

  test('can be rolled back only while the version before it is accepted, and not twice', () => {
    for (const record of [KEY, rolledBack.record])
      expect(() => rollBackKey(record, BY, START + 6)).toThrow(expect.objectContaining({ code: 'version_conflict' }));
    expect(() => rollBackKey(rotated, BY, until)).toThrow(expect.objectContaining({ code: 'version_conflict' }));
    const retired = retireVersion(rotated, 1, BY, START + 1)?.record ?? rotated;
    expect(() => rollBackKey(retired, BY, START + 2)).toThrow(expect.objectContaining({ code: 'version_conflict' }));
  });

  test('is refused for a key that may have no secret', () => {
    const suspended = suspendKey(rotated, BY, START)?.record ?? rotated;
    expect(() => rollBackKey(suspended, BY, START + 1)).toThrow(expect.objectContaining({ code: 'key_suspended' }));
    const revoked = revokeKey(rotated, BY, START)?.record ?? rotated;
    expect(() => rollBackKey(revoked, BY, START + 1)).toThrow(expect.objectContaining({ code: 'key_revoked' }));
  });

  test('keeps the current version however often it is done', () => {
    let record = KEY;
    for (let turn = 1; turn <= 3 * VERSIONS_KEPT_MAX; turn += 1) {
      record = rotateKey(record, { acceptedUntil: START + DAY_MS, expectedVersion: 1 }, BY, START).record;
      expect(record.versions.length).toBeLessThanOrEqual(VERSIONS_KEPT_MAX);
      record = rollBackKey(record, BY, START).record;
      expect(record.version).toBe(1);
      expect(record.versions.filter((one) => one.acceptedUntil === null)).toEqual([
        expect.objectContaining({ version: 1 }),
      ]);
    }
    expect(rotateKey(record, { acceptedUntil: START, expectedVersion: 1 }, BY, START).record.version).toBe(26);
  });
});
