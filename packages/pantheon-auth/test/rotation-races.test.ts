/** Commands about the versions of one key that meet, on two nodes: whatever the order, the record and the log agree. */
import { describe, expect, test, vi } from 'vitest';
import { eventAbout, type RecordedEvent } from '../src/domain/event.ts';
import { evolve, type KeyRecord, versionState } from '../src/domain/key.ts';
import { SECOND_MS } from '../src/foundation/clock.ts';
import { PantheonError } from '../src/foundation/errors.ts';
import type { PantheonAuth } from '../src/pantheon-auth.ts';
import { callerFor } from './callers.ts';
import { STORE } from './store.ts';
import { openTestEngine, type TestEngine } from './test-engine.ts';

vi.setConfig({ testTimeout: 1_800_000 });

/** Pairs of commands that meet; `PANTHEON_AUTH_RACES` asks for more. A message to a server takes longer than to a file. */
const PAIRS = Number(process.env['PANTHEON_AUTH_RACES'] ?? (STORE === 'postgres' ? 250 : 500));
/** What a command may be refused with when another one came first. */
const EXPECTED = [
  'conflict',
  'rotation_in_progress',
  'version_conflict',
  'version_in_use',
  'key_revoked',
  'key_suspended',
  'revoked',
  'suspended',
  'version_retired',
  'rate_limited',
];

/** A key with every string that was ever given out for it. */
interface Subject {
  readonly id: string;
  readonly strings: string[];
}

/** `tick` lets a millisecond pass: an answer has to arrive before its string can be sent. */
type Command = (auth: PantheonAuth, subject: Subject, tick: () => void) => Promise<unknown>;

const COMMANDS: Readonly<Record<string, Command>> = {
  rotate: async (auth, { id, strings }) => void strings.push((await auth.rotation.rotate(id)).key),
  'rotate at once': async (auth, { id, strings }) => {
    const { version } = await auth.keys.get(id);
    strings.push((await auth.rotation.rotate(id, { overlap: 0, expectedVersion: version })).key);
  },
  claim: async (auth, { id, strings }, tick) => {
    const { version } = await auth.keys.get(id);
    tick();
    const by = await callerFor(auth, strings.at(-1) ?? '');
    strings.push((await auth.rotation.rotateSelf(by, { expectedVersion: version })).key);
  },
  'roll back': (auth, { id }) => auth.rotation.rollBack(id, { force: true }),
  retire: async (auth, { id }) => auth.rotation.retire(id, Math.max(1, (await auth.keys.get(id)).version - 1)),
  suspend: (auth, { id }) => auth.keys.suspend(id),
  resume: (auth, { id }) => auth.keys.resume(id),
  verify: (auth, { strings }) => auth.verify({ key: strings.at(-1) ?? '' }),
  revoke: (auth, { id }) => auth.keys.revoke(id),
};
const NAMES = Object.keys(COMMANDS);

/** A generator of its own, so that a failing run can be repeated. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % below;
  };
}

async function attempt(command: () => Promise<unknown>): Promise<void> {
  try {
    await command();
  } catch (error) {
    const code = error instanceof PantheonError ? error.code : String(error);
    // A caller that is no longer accepted is refused before it is one.
    if (!(EXPECTED.includes(code) || /^Error: Not valid: (revoked|suspended|version_retired)$/.test(code))) throw error;
  }
}

async function replayed(auth: PantheonAuth, id: string): Promise<KeyRecord> {
  const { items } = await auth.events.list('default', { subjectId: id, limit: 200 });
  let record: KeyRecord | null = null;
  for (const { at, ...event } of items.toReversed())
    record = evolve(record, eventAbout('key', { ...(event as unknown as RecordedEvent), at: at.getTime() }));
  if (record === null) throw new Error('a key');
  return record;
}

/** One current version, record and log agree, at most one older version is accepted, and a string works as its version. */
async function expectWhole(engine: TestEngine, nodes: readonly PantheonAuth[], subject: Subject): Promise<void> {
  const [auth] = nodes;
  if (auth === undefined) throw new Error('a node');
  await engine.propagate();
  const now = engine.clock.now();
  const record = await replayed(auth, subject.id);
  const states = record.versions.map((version) => versionState(version, now));
  expect(states.filter((state) => state === 'current')).toHaveLength(1);
  expect(states.filter((state) => state === 'accepted').length).toBeLessThanOrEqual(1);
  expect(await auth.keys.get(subject.id)).toMatchObject({ version: record.version, state: record.state.kind });
  expect((await auth.keys.versions(subject.id)).map(({ version, state }) => [version, state])).toEqual(
    record.versions.map(({ version }, at) => [version, states[at]]),
  );
  for (const node of nodes) {
    const answers = await Promise.all(subject.strings.map((key) => node.verify({ key })));
    const versions = answers.flatMap((answer) => (answer.valid ? [answer.key.version] : []));
    const accepted = record.versions.filter((_, at) => states[at] !== 'retired').map(({ version }) => version);
    // A string is lost where its answer was a conflict. None works twice, or for a version that has ended.
    expect(new Set(versions).size).toBe(versions.length);
    if (record.state.kind !== 'active') expect(versions).toEqual([]);
    for (const version of versions) expect(accepted).toContain(version);
  }
}

describe(`${PAIRS} pairs of commands that meet on two nodes`, () => {
  test('leave one current version, a record that its events give, and nothing accepted that has ended', async () => {
    await using engine = await openTestEngine({ selfRotationsPerHour: 1_000_000 });
    const nodes = [engine.auth, await engine.openAgain()];
    const random = generator(42);
    let subject: Subject | null = null;
    let pairs = 0;
    const met = new Map<string, number>();
    for (; pairs < PAIRS; pairs += 1) {
      if (subject === null) {
        const { key, apiKey } = await engine.auth.keys.create({ userId: 'u', name: 'n', rotation: { overlap: '1h' } });
        subject = { id: apiKey.id, strings: [key] };
      }
      const pick = (): string => NAMES[random(NAMES.length)] ?? 'rotate';
      const pair = [pick(), pick()] as const;
      met.set([...pair].toSorted().join(' with '), 1 + (met.get(pair.toSorted().join(' with ')) ?? 0));
      const current: Subject = subject;
      await Promise.all(
        pair.map(async (name, nth) => {
          for (let steps = random(10); steps > 0; steps -= 1) await null;
          const node = nodes[(nth + random(2)) % 2] ?? engine.auth;
          await attempt(async () => COMMANDS[name]?.(node, current, () => engine.clock.advance(1)));
        }),
      );
      await expectWhole(engine, nodes, current);
      engine.clock.advance(random(3) * 40 * 60 * SECOND_MS);
      // Revoked is final, and a log of more than a page is not read here.
      const { state } = await engine.auth.keys.get(current.id);
      if (state === 'revoked' || current.strings.length > 40) subject = null;
      else if (state === 'suspended' && random(2) === 0) await engine.auth.keys.resume(current.id);
    }
    // Every command met every other one, where there were enough of them.
    if (PAIRS >= 5_000) expect(met.size).toBe((NAMES.length * (NAMES.length + 1)) / 2);
  });
});
