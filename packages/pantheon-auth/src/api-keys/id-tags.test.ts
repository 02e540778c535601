/** The list of tag secrets by itself. What follows of it for keys: `test/id-tags.test.ts`. */
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { runAsProcess } from '../commands/run-command.ts';
import { type AuditEvent, PROCESS_ACTOR } from '../domain/event.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Commit, Ledger } from '../events/ledger.ts';
import { PantheonError } from '../foundation/errors.ts';
import type { Sealer } from '../kms/encryption-context.ts';
import type { IdTagSecretRow } from '../schema/id-tag-secret-row.ts';
import { TestClock } from '../testing/test-clock.ts';
import type { IdsInUse } from './id-tag-rows.ts';
import { type IdTagChange, IdTags } from './id-tags.ts';

const BY = { actor: PROCESS_ACTOR, requestId: null, reason: null };
const STALENESS_MAX_MS = 1_000;
const READ_EVERYWHERE_MS = STALENESS_MAX_MS + 50;

/** As `id-tag-manager.ts` does it, by the process. */
async function change(tags: IdTags, decide: () => Promise<IdTagChange | null>): Promise<void> {
  await runAsProcess(BY, { load: () => tags.load(), decide, commit: (made) => tags.commit(made) });
}
const add = (tags: IdTags): Promise<void> => change(tags, () => tags.decideAdd(BY));
const retire = (tags: IdTags, number: number): Promise<void> => change(tags, () => tags.decideRetire(number, BY));

/** A store in memory. What is sealed is kept aside and replaced by a name, so that a secret that leaks is seen. */
function setUp(inUse: Partial<IdsInUse> = {}) {
  const clock = new TestClock();
  const rows: IdTagSecretRow[] = [];
  const plain = new Map<string, Buffer>();
  const events: AuditEvent[] = [];
  const commits: Commit[] = [];
  const quarantined: PantheonError[] = [];
  const damaged = new Set<number>();
  const state = { inUse: { hasUntagged: false, newestNumber: null, ...inUse } as IdsInUse, loads: 0 };
  const sealer: Sealer = {
    seal: async (_place, plaintext) => {
      const name = randomBytes(8);
      plain.set(name.toString('hex'), Buffer.from(plaintext));
      return name;
    },
    open: async ({ rowId }, sealed) => {
      const found = plain.get(Buffer.from(sealed).toString('hex'));
      if (found === undefined || damaged.has(Number(rowId))) throw new PantheonError('key_quarantined');
      return found;
    },
  };
  const ledger: Ledger = {
    commit: async (commit) => {
      for (const change of commit.changes) {
        if (change.table !== 'id_tag_secrets') continue;
        if (change.kind === 'insert') {
          if (rows.some((row) => row.number === change.row.number)) throw new PantheonError('conflict');
          rows.unshift(change.row);
        } else if (change.kind === 'update') {
          const at = rows.findIndex((row) => row.number === change.where.number);
          rows.splice(at, 1, ...rows.slice(at, at + 1).map((row) => ({ ...row, ...change.set })));
        }
      }
      commits.push(commit);
      return { seq: commits.length };
    },
  };
  const eventLog = { toRows: async (some: AuditEvent[]) => void events.push(...some) } as unknown as EventCodec;
  const node = (): IdTags =>
    new IdTags({
      rows: {
        newest: async (limit) => {
          state.loads += 1;
          return rows.slice(0, limit).map((row) => ({ ...row }));
        },
        idsInUse: async () => state.inUse,
      },
      ledger,
      events: eventLog,
      sealer,
      clock,
      stalenessMaxMs: STALENESS_MAX_MS,
      onQuarantine: (error) => quarantined.push(error),
    });
  return { clock, rows, plain, events, commits, quarantined, damaged, state, node };
}

describe('the verdict on an id by its tag', () => {
  test('while there is no secret, no id is judged as forged', () => {
    expect(setUp().node().verdict('0123456789abcdef')).toBe('uncertain');
  });

  test('is issued or forged, and uncertain once its secret was retired', async () => {
    const tags = setUp().node();
    await tags.start(BY);
    const { id, number } = tags.newId();
    expect([number, tags.numberOf(id), tags.verdict(id)]).toEqual([1, 1, 'issued']);
    expect([tags.numberOf('0123456789abcdef'), tags.verdict('0123456789abcdef')]).toEqual([null, 'forged']);
    await add(tags);
    await retire(tags, 1);
    expect([tags.verdict(id), tags.verdict('0123456789abcdef')]).toEqual(['uncertain', 'forged']);
  });

  test('is never forged while a key may be older than tags', async () => {
    const one = setUp({ hasUntagged: true });
    const tags = one.node();
    await tags.start(BY);
    expect(tags.verdict('0123456789abcdef')).toBe('uncertain');
    one.state.inUse = { hasUntagged: false, newestNumber: 1 };
    await tags.reset();
    expect(tags.verdict('0123456789abcdef')).toBe('forged');
  });

  test('nor while a secret cannot be decrypted, a row is missing, or a key names a missing secret', async () => {
    const one = setUp();
    const tags = one.node();
    await tags.start(BY);
    await add(tags);
    const forged = () => tags.verdict('0123456789abcdef');
    expect(forged()).toBe('forged');
    one.damaged.add(1);
    await tags.reset();
    expect([forged(), one.quarantined.length]).toEqual(['uncertain', 1]);
    await tags.reset();
    // Told once.
    expect(one.quarantined).toHaveLength(1);
    one.damaged.clear();
    one.rows.splice(1, 1);
    await tags.reset();
    expect(forged()).toBe('uncertain');
    one.rows.splice(0, 1);
    one.state.inUse = { hasUntagged: false, newestNumber: 2 };
    await tags.reset();
    expect(forged()).toBe('uncertain');
  });

  test('nor if there are more secrets than are kept in memory', async () => {
    const one = setUp();
    const tags = one.node();
    await tags.start(BY);
    const { id } = tags.newId();
    for (let number = 2; number <= 17; number += 1) {
      await add(tags);
      await retire(tags, number - 1);
    }
    expect([tags.verdict(id), tags.verdict('0123456789abcdef')]).toEqual(['uncertain', 'uncertain']);
  });
});

describe('the secret with which a new id is tagged', () => {
  test('is the first of a store at once, and a later one when every node has read it', async () => {
    const one = setUp();
    const tags = one.node();
    await tags.start(BY);
    expect(tags.newId().number).toBe(1);
    await add(tags);
    one.clock.advance(READ_EVERYWHERE_MS - 1);
    expect(tags.newId().number).toBe(1);
    one.clock.advance(1);
    expect(tags.newId().number).toBe(2);
  });

  test('is used after a time counted from when this node first read it: another node may have committed it long after its date', async () => {
    const one = setUp();
    const [here, there] = [one.node(), one.node()];
    await here.start(BY);
    await there.start(BY);
    await add(there);
    one.clock.advance(10 * READ_EVERYWHERE_MS);
    await here.reset();
    expect(here.newId().number).toBe(1);
    one.clock.advance(READ_EVERYWHERE_MS);
    expect(here.newId().number).toBe(2);
  });

  test('is used by its date only if no commit takes that long', async () => {
    const one = setUp();
    await one.node().start(BY);
    await add(one.node());
    one.clock.advance(60_000 + READ_EVERYWHERE_MS);
    const late = one.node();
    await late.start(BY);
    expect(late.newId().number).toBe(2);
  });

  test('if a number was assigned again after a failover, its time starts again', async () => {
    const one = setUp();
    const tags = one.node();
    await tags.start(BY);
    await add(tags);
    one.clock.advance(READ_EVERYWHERE_MS);
    // The failover lost it, and somebody added another one.
    one.rows.shift();
    await add(one.node());
    await tags.reset();
    expect(tags.newId().number).toBe(1);
  });

  test('cannot be had while there is none: the caller is told to wait', async () => {
    const one = setUp();
    const tags = one.node();
    await tags.start(BY);
    one.damaged.add(1);
    await tags.reset();
    await tags.start(BY);
    expect(() => tags.newId()).toThrow(/store_unavailable/);
    one.clock.advance(READ_EVERYWHERE_MS);
    expect(tags.newId().number).toBe(2);
  });
});

describe('a start', () => {
  test('at the same moment on two nodes creates one secret, which both use', async () => {
    const one = setUp();
    const nodes = [one.node(), one.node()];
    await Promise.all(nodes.map((node) => node.start(BY)));
    expect(one.rows).toHaveLength(1);
    const [a, b] = nodes;
    expect(b?.verdict(a?.newId().id ?? '')).toBe('issued');
  });

  test('creates none if the data key of the system tenant cannot be decrypted, logs that, and continues', async () => {
    const one = setUp();
    const tags = one.node();
    await tags.start(BY);
    one.damaged.add(1);
    const broken = new IdTags({
      rows: { newest: async () => one.rows, idsInUse: async () => one.state.inUse },
      ledger: {} as Ledger,
      events: {} as EventCodec,
      sealer: {
        seal: async () => Promise.reject(new PantheonError('key_quarantined')),
        open: async () => Promise.reject(new PantheonError('key_quarantined')),
      },
      clock: one.clock,
      stalenessMaxMs: STALENESS_MAX_MS,
      onQuarantine: (error) => one.quarantined.push(error),
    });
    await broken.start(BY);
    expect(one.quarantined.length).toBeGreaterThan(0);
    expect(() => broken.newId()).toThrow(/store_unavailable/);
    expect(broken.verdict('0123456789abcdef')).toBe('uncertain');
  });

  test('fails if the store cannot be read', async () => {
    const away = new PantheonError('store_unavailable');
    const tags = new IdTags({
      rows: { newest: async () => [], idsInUse: async () => Promise.reject(away) },
      ledger: {} as Ledger,
      events: {} as EventCodec,
      sealer: {} as Sealer,
      clock: new TestClock(),
      stalenessMaxMs: STALENESS_MAX_MS,
    });
    await expect(tags.start(BY)).rejects.toBe(away);
  });
});

test('the secret is stored only in its sealed value', async () => {
  const one = setUp();
  const tags = one.node();
  await tags.start(BY);
  const stored = Buffer.from(JSON.stringify([one.rows, one.events, one.commits.map(({ changes }) => changes)]));
  expect(one.plain.size).toBe(1);
  for (const secret of one.plain.values()) {
    expect(secret).toHaveLength(32);
    for (const form of [secret.toString('hex'), secret.toString('base64'), JSON.stringify(secret), secret.join(',')])
      expect(stored.includes(form)).toBe(false);
  }
});

test('a load that ends after a younger one changes nothing', async () => {
  const one = setUp();
  const tags = one.node();
  await tags.start(BY);
  const { id } = tags.newId();
  const answers: ((rows: readonly IdTagSecretRow[]) => void)[] = [];
  const slow = new IdTags({
    rows: { newest: () => new Promise((resolve) => void answers.push(resolve)), idsInUse: async () => one.state.inUse },
    ledger: {} as Ledger,
    events: {} as EventCodec,
    sealer: { open: async () => [...one.plain.values()][0] ?? Buffer.alloc(0) } as unknown as Sealer,
    clock: one.clock,
    stalenessMaxMs: STALENESS_MAX_MS,
  });
  const older = slow.reset();
  const younger = slow.reset();
  answers[1]?.(one.rows);
  await younger;
  expect(slow.verdict(id)).toBe('issued');
  answers[0]?.([]);
  await older;
  expect(slow.verdict(id)).toBe('issued');
});
