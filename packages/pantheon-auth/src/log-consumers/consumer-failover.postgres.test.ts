/** A consumer of the log whose server of PostgreSQL is replaced by one that had not received the last event. */
import { expect, test } from 'vitest';
import { describeWithOwnPostgres } from '../../../../tools/servers/scratch.ts';
import { commitTenant, eventually, openFailover } from '../../test/postgres-failures.ts';
import { EventCodec } from '../events/event-codec.ts';
import { NonDecreasingClock, systemClock } from '../foundation/clock.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import type { Sealer } from '../kms/encryption-context.ts';
import { postgres } from '../storage/postgres/postgres.ts';
import { LogConsumers } from './log-consumers.ts';

describeWithOwnPostgres('a consumer of the log, when the server is replaced', () => {
  test('is passed every event of the log that continues, in order, also one with the number of a lost one', async () => {
    await using failover = await openFailover();
    const clock = new NonDecreasingClock(systemClock);
    const open = (url: string) => postgres({ url, poolMax: 4 }).open({ clock, onWarning: () => {} });
    const db = await open(failover.url);
    const seen: [number, string][] = [];
    const jobs = new JobRunner({
      rows: db.jobLeases,
      clock,
      nodeId: 'node',
      onFailure: () => {},
      times: { runHoldMs: 2_000, graceMs: 500 },
    });
    const events = new EventCodec(db.events, {} as Sealer);
    new LogConsumers({ jobs, cursors: db.logCursors, log: db.log, events, clock }).register({
      name: 'watcher',
      startsAt: 'beginning',
      consume: async (some) => void seen.push(...some.map((event): [number, string] => [event.seq, event.subject.id])),
    });
    jobs.start();
    const isSeen = (seq: number, id: string) => eventually(async () => expect(seen).toContainEqual([seq, id]), 20_000);

    await commitTenant(db, 'before');
    await isSeen(1, 'before');
    await failover.promote();
    // The old server takes one more event, which is consumed, and which the new server will never have.
    await commitTenant(db, 'lost');
    await isSeen(2, 'lost');
    const onNew = await open(failover.onNew);
    failover.proxy.retarget(failover.replica.port);
    await failover.primary.kill();
    await commitTenant(onNew, 'instead');
    await isSeen(2, 'instead');
    await eventually(() => commitTenant(db, 'after'));
    await isSeen(3, 'after');

    const goesOn = seen.filter(([, id]) => id !== 'lost');
    const firsts = goesOn.filter(([seq], n) => goesOn.findIndex(([other]) => other === seq) === n);
    expect(firsts).toEqual([
      [1, 'before'],
      [2, 'instead'],
      [3, 'after'],
    ]);
    await jobs.close();
    await Promise.all([db.close(), onNew.close()]);
  }, 90_000);
});
