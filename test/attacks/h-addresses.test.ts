/**
 * Attacks with the address of a request behind proxies: another spelling of a hop must not be another answer, and what
 * is no address must not be one that is trusted.
 */
import type { AddressInfo } from 'node:net';
import { parseKey } from 'pantheon-auth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectNoSecretWritten, openService, type Service } from './harness.ts';
import { getWith, sendRaw } from './raw-http.ts';

const CLIENT = '203.0.113.7';
const PROXY = '10.0.0.5';

let service: Service;
let port: number;
/** Keys by what they are bound to. */
let keys: Readonly<Record<'client' | 'proxies' | 'anywhere', string>>;

beforeAll(async () => {
  service = await openService({}, { TRUSTED_PROXIES: '127.0.0.1, 10.0.0.0/8, fd00::/8' });
  const bound = async (ipAllowlist: readonly string[]) => (await service.engine.create({ ipAllowlist })).key;
  keys = {
    client: await bound([CLIENT, '2001:db8::7']),
    proxies: await bound(['10.0.0.0/8', '127.0.0.0/8', 'fd00::/8']),
    anywhere: await bound([]),
  };
  await service.app.listen({ port: 0, host: '127.0.0.1' });
  ({ port } = service.app.server.address() as AddressInfo);
});

afterAll(() => service[Symbol.asyncDispose]());

/** The statuses of the three keys, sent with exactly these headers. */
async function statuses(forwarded: readonly string[]): Promise<readonly number[]> {
  const lines = forwarded.map((value) => `X-Forwarded-For: ${value}`);
  const found: number[] = [];
  for (const key of [keys.client, keys.proxies, keys.anywhere])
    found.push((await sendRaw(port, getWith([...lines, `Authorization: Bearer ${key}`]))).status);
  return found;
}

const spellings = (address: string): readonly string[] => [
  address,
  `${address}:51234`,
  ` ${address}  `,
  `::ffff:${address}`,
  `::FFFF:${address}%eth0`,
  `[::ffff:${address}]`,
  `[::ffff:${address}]:443`,
  `[::ffff:${address}%eth0]:443`,
];

describe('every form of every hop is the same address as its plain form', () => {
  test.each(spellings(CLIENT))('of the client: %j', async (client) => {
    for (const proxy of spellings(PROXY)) {
      expect([proxy, await statuses([`${client},${proxy}`])]).toEqual([proxy, [200, 403, 200]]);
      // What the client itself wrote in front changes nothing, whatever it is.
      expect([proxy, await statuses([`${proxy},${client}`])]).toEqual([proxy, [200, 403, 200]]);
    }
  });

  test.each([
    ['2001:db8::7, fd00::5'],
    ['[2001:db8::7]:51234, [fd00::5]:443'],
    ['[2001:DB8:0:0:0:0:0:7%eth0], fd00::5%eth0'],
    ['10.0.0.9, 2001:0db8::0007, [fd00::5]'],
  ])('of IPv6: %j', async (header) => {
    expect(await statuses([header])).toEqual([200, 403, 200]);
  });

  test('in one header as in several', async () => {
    expect(await statuses([`${PROXY}:1`, `${CLIENT}:2`, `${PROXY}:443`, PROXY])).toEqual([200, 403, 200]);
  });
});

test.each([
  ...[
    '',
    ',',
    'unknown',
    '_hidden',
    '10.0.0',
    '10.1',
    '0x0a000005',
    '167772165',
    '010.0.0.5',
    '10.0.0.5:',
    '[10.0.0.5]',
  ],
  ...[
    '10.0.0.5:443:443',
    '10.0.0.5:999999',
    '10.0.0.5/8',
    '"10.0.0.5"',
    'for=10.0.0.5',
    '[fd00::5',
    'fd00::5]',
    '[]:1',
  ],
  ...['9'.repeat(99), '[10.0.0.5]:443', '10.0.0.5 10.0.0.6', '10.0.0.5;443', '%31%30.0.0.5', 'localhost'],
])('a hop that is not an address makes the client unknown, which no allowlist contains: %j', async (junk) => {
  expect(await statuses([`${CLIENT}, ${junk}`])).toEqual([403, 403, 200]);
  expect(await statuses([`${CLIENT}, ${junk}, ${PROXY}:443`])).toEqual([403, 403, 200]);
});

test('the audit trail and the last addresses show the plain form', async () => {
  const forwarded = { 'x-forwarded-for': `[::ffff:${CLIENT}%eth0]:51234, ${PROXY}:443` };
  const created = await service.call({
    ...{ method: 'POST', url: '/v1/keys', by: service.root, headers: forwarded, secret: true },
    payload: { userId: 'u', name: 'from there' },
  });
  expect(created.status).toBe(201);
  const { items } = await service.auth.events.list('default', { type: 'key.created', limit: 1 });
  expect(items).toMatchObject([{ actor: { address: CLIENT } }]);
  const ip = '::ffff:198.51.100.9%eth0';
  expect(await service.auth.verify({ key: keys.anywhere, ip })).toMatchObject({ valid: true });
  const [version] = await service.auth.keys.versions(parseKey(keys.anywhere)?.id ?? '');
  expect(version?.lastAddresses.slice(0, 2)).toEqual(['198.51.100.9', CLIENT]);
  expect(version?.lastAddresses.filter((address) => /ffff|%|\[/.test(address))).toEqual([]);
});

test('no secret was written', () => {
  expectNoSecretWritten();
});
