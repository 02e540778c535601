/** The service on a database file that is damaged: as a whole, or in one event. */
import { readFileSync, writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { eventPageSchema } from '../src/api/events/schemas.ts';
import { openScratchService } from './scratch-service.ts';

const PAGE_BYTES = 4_096;

test('with a damaged store it is not ready, accepts nothing, answers no 401, writes nothing, and logs what to do', async () => {
  const service = await openScratchService();
  try {
    if (service.config.database.kind !== 'sqlite') throw new Error('It is a test of SQLite.');
    const { key } = await service.create();
    const verify = () => service.call('POST', '/v1/keys/verify', { body: { key } });
    expect(await verify()).toMatchObject({ status: 200, body: { valid: true } });
    expect(await service.call('GET', '/readyz', { key: null })).toMatchObject({ status: 200 });

    const { file } = service.config.database;
    const other = new DatabaseSync(file);
    other.exec("insert into meta values ('another', 'process')");
    other.exec('pragma wal_checkpoint(truncate)');
    writeFileSync(file, readFileSync(file).fill(0xa5, PAGE_BYTES), { flag: 'r+' });
    other.close();

    const calls = [
      () => service.call('GET', '/readyz', { key: null }),
      verify,
      () => service.call('POST', '/v1/keys', { body: { userId: 'u', name: 'n' } }),
      () => service.call('GET', '/v1/keys'),
      () => service.call('GET', '/v1/self', { key }),
    ];
    for (const call of calls) expect(await call()).toMatchObject({ status: 503, body: { code: 'store_unusable' } });
    expect(await service.call('GET', '/healthz', { key: null })).toMatchObject({ status: 200 });
    expect(service.log.filter((line) => /is damaged: .*restore a backup/.test(line)).length).toBeGreaterThan(0);
  } finally {
    await service.close();
  }
});

test('a damaged event is in the page, in the documented form', async () => {
  const service = await openScratchService();
  try {
    if (service.config.database.kind !== 'sqlite') throw new Error('It is a test of SQLite.');
    const [one, two] = [await service.create(), await service.create()];
    const database = new DatabaseSync(service.config.database.file);
    database.exec('drop trigger events_no_update');
    database.prepare('update events set body = ? where subject_id = ?').run('{"secret":"forged"}', one.apiKey.id);
    database.close();
    const { status, body, text } = await service.call('GET', '/v1/events?subjectType=key');
    expect(status).toBe(200);
    expect(eventPageSchema.parse(body).items).toMatchObject([
      { subject: { id: two.apiKey.id }, actor: {} },
      { subject: { id: one.apiKey.id }, type: 'key.created', damaged: true },
    ]);
    expect(text).not.toContain('forged');
  } finally {
    await service.close();
  }
});
