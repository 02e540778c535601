import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { eventAbout, type RecordedEvent } from '../../src/domain/event.ts';
import { evolve, type KeyRecord } from '../../src/domain/key.ts';
import { STORE } from '../store.ts';
import { clockFrom, openTestEngine } from '../test-engine.ts';

/** Each makes about as many commits as fit into a second there. */
const ROUNDS = STORE === 'postgres' ? 3 : 6;

test('I13: after kill -9 at any moment every acknowledged change is stored, and log and rows agree', async () => {
  await using engine = await openTestEngine();
  await engine.auth.close();
  /** What each acknowledged key must answer now; a rotation replaces the string. */
  const live = new Map<string, string>();
  const revoked = new Set<string>();
  for (let round = 0; round < ROUNDS; round += 1) {
    const child = engine.startProcess(
      `
      const tell = (fact) => process.stdout.write(JSON.stringify(fact) + '\\n');
      for (;;) {
        const { key, apiKey } = await auth.keys.create({ userId: 'u', name: 'n' });
        tell({ id: apiKey.id, key });
        const { key: next } = await auth.rotation.rotate(apiKey.id, { overlap: 0 });
        tell({ id: apiKey.id, key: next });
        await auth.keys.update(apiKey.id, { description: 'd' });
        const other = await auth.keys.create({ userId: 'u', name: 'n' });
        tell({ id: other.apiKey.id, key: other.key });
        await auth.keys.revoke(other.apiKey.id);
        tell({ id: other.apiKey.id, revoked: true });
      }
    `,
    );
    const closed = once(child, 'close');
    let left = randomInt(5, 60);
    // The last line may say less than what was committed, never more.
    let pending: string | null = null;
    for await (const line of createInterface({ input: child.stdout })) {
      const fact = JSON.parse(line) as { id: string; key?: string; revoked?: boolean };
      if (fact.revoked === true) revoked.add(fact.id);
      else live.set(fact.id, fact.key ?? '');
      pending = fact.id;
      left -= 1;
      if (left === 0) child.kill('SIGKILL');
    }
    expect(await closed).toEqual([null, 'SIGKILL']);

    const auth = await engine.openAgain({ clock: clockFrom() });
    try {
      for (const [id, key] of live) {
        const answer = await auth.verify({ key });
        const code = answer.valid ? 'valid' : answer.denial.code;
        // What came after the last acknowledgement may have happened as well.
        const mayBe = id === pending ? ['valid', 'version_retired', 'revoked'] : ['valid'];
        expect(revoked.has(id) ? ['revoked'] : mayBe, `round ${round}`).toContain(code);
        if (code !== 'valid') revoked.add(id);
      }
      const records = new Map<string, KeyRecord>();
      let cursor: string | null = null;
      do {
        const page: Awaited<ReturnType<typeof auth.events.list>> = await auth.events.list('default', {
          subjectType: 'key',
          order: 'oldest_first',
          limit: 200,
          ...(cursor !== null && { cursor }),
        });
        for (const event of page.items) {
          const fact = eventAbout('key', { ...event, at: event.at.getTime() } as RecordedEvent);
          records.set(event.subject.id, evolve(records.get(event.subject.id) ?? null, fact));
        }
        cursor = page.nextCursor;
      } while (cursor !== null);
      for (const [id, replayed] of records) {
        const { record, secrets } = await auth.keys.load(id);
        expect(record).toEqual(replayed);
        expect(record.versions.filter(({ acceptedUntil }) => acceptedUntil === null)).toHaveLength(1);
        expect(secrets.map(({ version }) => version)).toEqual(record.versions.map(({ version }) => version));
      }
      for (const id of live.keys()) expect(records.has(id)).toBe(true);
      // Whoever was rotated or revoked without an acknowledgement has no key string that works any more.
      for (const id of [...live.keys()]) if (revoked.has(id) && id === pending) live.delete(id);
    } finally {
      await auth.close();
    }
  }
  expect(live.size).toBeGreaterThan(3 * ROUNDS);
}, 120_000);

test('I13: a crash loses only usage that was not stored yet, and nothing is counted twice', async () => {
  await using engine = await openTestEngine();
  const { key, apiKey } = await engine.auth.keys.create({ userId: 'u', name: 'n' });
  await engine.auth.close();
  const child = engine.startProcess(
    `
    const [key] = args;
    for (let n = 0; n < 10; n += 1) await auth.verify({ key });
    const used = () => auth.keys.get(${JSON.stringify(apiKey.id)});
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    console.log((await used()).usageCount);
    for (let n = 0; n < 5; n += 1) await auth.verify({ key });
    console.log((await used()).usageCount);
    await next();
  `,
    [key],
  );
  const closed = once(child, 'close');
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line);
    if (lines.length === 2) child.kill('SIGKILL');
  }
  await closed;
  expect(lines).toEqual(['10', '15']);
  const auth = await engine.openAgain({ clock: clockFrom() });
  expect(await auth.keys.get(apiKey.id)).toMatchObject({ usageCount: 10 });
  await auth.close();
}, 60_000);
