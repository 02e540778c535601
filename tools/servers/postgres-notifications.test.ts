/** Notifications are lost when told to, and nothing else is, however the bytes are cut. */
import fc from 'fast-check';
import { Client } from 'pg';
import { expect, test } from 'vitest';
import { startFaultProxy } from './fault-proxy.ts';
import { PostgresNotifications } from './postgres-notifications.ts';
import { describeWithPostgres, scratchPostgres } from './scratch.ts';

const SSL_REQUEST = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const STARTUP = [0, 0, 0, 9, 0, 3, 0, 0, 0];

function message(type: string, body: Uint8Array): Buffer {
  const header = Buffer.from([type.charCodeAt(0), 0, 0, 0, 0]);
  header.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([header, body]);
}

function cut(bytes: Buffer, at: readonly number[]): readonly Buffer[] {
  const places = [0, ...at.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((place, index) => bytes.subarray(places[index], place));
}

const messages = fc.array(
  fc.record({ type: fc.constantFrom('A', 'D', 'Z', 'S'), body: fc.uint8Array({ maxLength: 12 }) }),
);

test('for any messages, split anywhere, exactly the notifications are removed', () => {
  fc.assert(
    fc.property(messages, fc.array(fc.nat()), fc.boolean(), (said, cuts, asksForTls) => {
      let dropped = 0;
      const filter = new PostgresNotifications(
        () => true,
        () => {
          dropped += 1;
        },
      );
      if (asksForTls) {
        filter.toServer(Buffer.from(SSL_REQUEST));
        // The one unframed byte, which must not be taken for the type of a message.
        expect(filter.toClient(Buffer.from('N')).toString()).toBe('N');
      }
      filter.toServer(Buffer.from(STARTUP));
      const all = Buffer.concat(said.map(({ type, body }) => message(type, body)));
      const passed = Buffer.concat(cut(all, cuts).map((piece) => filter.toClient(piece)));
      const kept = said.filter(({ type }) => type !== 'A');
      expect(passed.equals(Buffer.concat(kept.map(({ type, body }) => message(type, body))))).toBe(true);
      expect(dropped).toBe(said.length - kept.length);
    }),
  );
});

test('bytes of another protocol are passed unchanged', () => {
  const filter = new PostgresNotifications(
    () => true,
    () => undefined,
  );
  filter.toServer(Buffer.from('*1\r\n$4\r\nPING\r\n'));
  const answer = Buffer.from([...message('A', Buffer.from('not a notification'))]);
  expect(filter.toClient(answer).equals(answer)).toBe(true);
});

describeWithPostgres('a PostgreSQL session through the proxy', () => {
  test('drops notifications while told to, passes them afterwards, and its queries are answered', async () => {
    await using database = await scratchPostgres();
    const { hostname, port } = new URL(database.url);
    await using proxy = await startFaultProxy({ host: hostname, port: Number(port) });
    const client = new Client({ connectionString: proxy.rewrite(database.url) });
    const heard: (string | undefined)[] = [];
    client.on('notification', ({ payload }) => heard.push(payload));
    await client.connect();
    await client.query('listen news');
    await client.query("notify news, 'first'");
    proxy.dropPostgresNotifications(true);
    await client.query("notify news, 'lost'");
    proxy.dropPostgresNotifications(false);
    await client.query("notify news, 'last'");
    expect(await client.query('select 1 as one').then(({ rows }) => rows)).toEqual([{ one: 1 }]);
    expect([heard, proxy.droppedNotifications]).toEqual([['first', 'last'], 1]);
    await client.end();
  });
});
