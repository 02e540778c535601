import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { describe, expect, test, vi } from 'vitest';
import { AddressRanges, clientBucket, isWithin, parseAddressRange, UNKNOWN_SCOPE } from './address.ts';

const ipv4 = fc.ipV4();
const ipv6 = fc.ipV6();
const range = fc.oneof(
  fc.tuple(ipv4, fc.integer({ min: 0, max: 32 })).map(([address, prefix]) => `${address}/${prefix}`),
  fc.tuple(ipv6, fc.integer({ min: 0, max: 128 })).map(([address, prefix]) => `${address}/${prefix}`),
);

function canonical(text: string): string {
  const parsed = parseAddressRange(text);
  if (!parsed.ok) throw new Error(`not a range: ${text}`);
  return parsed.cidr;
}

describe('parsing a range', () => {
  test.each([
    ['10.1.2.3', '10.1.2.3/32'],
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.1.2.3/0', '0.0.0.0/0'],
    ['192.168.255.255/23', '192.168.254.0/23'],
    ['::1', '::1/128'],
    ['2001:DB8:0:0:0:0:0:1/64', '2001:db8::/64'],
    ['2001:db8:ffff:ffff::/33', '2001:db8:8000::/33'],
    ['::ffff:10.1.2.3', '10.1.2.3/32'],
    ['::ffff:0a01:0203', '10.1.2.3/32'],
    ['::ffff:10.1.2.3/104', '10.0.0.0/8'],
    ['::ffff:0:0/96', '0.0.0.0/0'],
    ['::ffff:10.1.2.3/95', '::fffe:0:0/95'],
    ['::/0', '::/0'],
    ['::10.1.2.3', '::a01:203/128'],
    ['2001:db8::10.1.2.3', '2001:db8::a01:203/128'],
  ])('%s is %s', (text, cidr) => {
    expect(parseAddressRange(text)).toEqual({ ok: true, cidr });
  });

  test.each([
    '',
    ' ',
    '127.1',
    '0x7f.1',
    '0x7f.0.0.1',
    '2130706433',
    '127.0.0.010',
    '01.2.3.4',
    '1.2.3',
    '1.2.3.256',
    '::ffff:0x7f.0.0.1',
    '1.2.3.4/33',
    '1.2.3.4/-1',
    '1.2.3.4/08',
    '1.2.3.4/',
    '1.2.3.4/8/8',
    '1.2.3.4/ 8',
    '1.2.3.4/8.0',
    '1.2.3.4/1e1',
    '10.0.0.0/255.0.0.0',
    '::/129',
    ' 1.2.3.4',
    '1.2.3.4 ',
    '1.2.3.4\n',
    '[::1]',
    'fe80::1%eth0',
    'fe80::%eth0/64',
    '1::2::3',
    '12345::',
    '*',
    'localhost',
    '1.2.3.4:80',
    `${'0'.repeat(100)}::1`,
  ])('%j is refused', (text) => {
    expect(parseAddressRange(text)).toEqual({ ok: false });
  });

  test('a canonical range reads back as itself', () => {
    fc.assert(
      fc.property(range, (text) => {
        expect(canonical(canonical(text))).toBe(canonical(text));
      }),
    );
  });

  test('no text makes the parser throw', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) => void parseAddressRange(text)));
  });
});

describe('a set of ranges', () => {
  test('an address lies in its own range at every width', () => {
    fc.assert(
      fc.property(fc.oneof(ipv4, ipv6), fc.integer({ min: 0, max: 32 }), (address, prefix) => {
        expect(AddressRanges.of([`${address}/${prefix}`]).contains(address)).toBe(true);
      }),
    );
  });

  test('the first and last address are inside, their neighbours are not', () => {
    const ranges = AddressRanges.of(['10.1.0.0/16', '2001:db8:1::/48']);
    for (const inside of ['10.1.0.0', '10.1.255.255', '2001:db8:1::', '2001:db8:1:ffff:ffff:ffff:ffff:ffff']) {
      expect(ranges.contains(inside)).toBe(true);
    }
    for (const outside of ['10.0.255.255', '10.2.0.0', '2001:db8:0:ffff::', '2001:db8:2::']) {
      expect(ranges.contains(outside)).toBe(false);
    }
  });

  test('an IPv4 address is the same address when it is written as IPv6', () => {
    fc.assert(
      fc.property(ipv4, range, (address, cidr) => {
        const ranges = AddressRanges.of([cidr]);
        expect(ranges.contains(`::ffff:${address}`)).toBe(ranges.contains(address));
      }),
    );
  });

  test('the range of all IPv6 addresses contains no IPv4 address, nor the other way round', () => {
    expect(AddressRanges.of(['::/0']).contains('10.0.0.1')).toBe(false);
    expect(AddressRanges.of(['::/0']).contains('::ffff:10.0.0.1')).toBe(false);
    expect(AddressRanges.of(['0.0.0.0/0']).contains('::1')).toBe(false);
  });

  test('the IPv4-compatible form, which is not the mapped one, is not IPv4', () => {
    expect(AddressRanges.of(['10.0.0.0/8']).contains('::10.0.0.1')).toBe(false);
    expect(AddressRanges.of(['::10.0.0.1']).contains('10.0.0.1')).toBe(false);
    expect(clientBucket('::10.0.0.1')).toBe('::/64');
  });

  test('a text that is not an address is in no range', () => {
    const everywhere = AddressRanges.of(['0.0.0.0/0', '::/0']);
    for (const junk of [
      '',
      'unknown',
      '127.1',
      '0x7f.0.0.1',
      '2130706433',
      '1.2.3.4:80',
      '1.2.3.4, 5.6.7.8',
      '1.2.3.4/8',
    ]) {
      expect(everywhere.contains(junk)).toBe(false);
    }
  });

  test('an address with a zone is compared without it', () => {
    expect(AddressRanges.of(['fe80::/10']).contains('fe80::1%eth0')).toBe(true);
  });

  test('an empty set contains no address', () => {
    expect(AddressRanges.of([]).contains('10.0.0.1')).toBe(false);
  });

  test('a text that is not a range is an error, and does not give a shorter set', () => {
    expect(() => AddressRanges.of(['10.0.0.0/8', 'nonsense'])).toThrow(TypeError);
  });
});

describe('a child within its parent', () => {
  test.each([
    [['10.1.0.0/16'], ['10.0.0.0/8'], true],
    [['10.0.0.0/8'], ['10.0.0.0/8'], true],
    [['10.0.0.0/7'], ['10.0.0.0/8'], false],
    [['10.1.2.3/32', '192.168.1.1'], ['10.0.0.0/8', '192.168.0.0/16'], true],
    [['10.1.2.3/32', '172.16.0.1'], ['10.0.0.0/8', '192.168.0.0/16'], false],
    [['::ffff:10.1.2.3'], ['10.0.0.0/8'], true],
    [['10.1.2.3'], ['::/0'], false],
    [['2001:db8::1'], ['2001:db8::/32'], true],
    [['2001:db9::1'], ['2001:db8::/32'], false],
    [['10.1.2.3'], [], true],
    [[], ['10.0.0.0/8'], false],
    [[], [], true],
  ])('%j within %j: %j', (child, parent, within) => {
    expect(isWithin(child, parent)).toBe(within);
  });

  test('is compared in bytes: comparing many ranges with many others builds no text for each', () => {
    const parent = Array.from({ length: 64 }, (_, n) => `2001:db8:${n.toString(16)}::/48`);
    const child = Array.from({ length: 64 }, (_, n) => `2001:db8:3f:${n.toString(16)}::/64`);
    const written = [vi.spyOn(ipaddr.IPv6.prototype, 'toString'), vi.spyOn(ipaddr.IPv6.prototype, 'toByteArray')];
    const answers = [isWithin(child, parent), isWithin([...child, '2001:db8:40::/64'], parent)];
    const calls = written.map((one) => one.mock.calls.length);
    for (const one of written) one.mockRestore();
    expect(answers).toEqual([true, false]);
    expect(Math.max(...calls)).toBeLessThan(4 * 2 * (64 + 65));
  });

  test('where the child may be used, the parent may be used too', () => {
    const few = fc.array(range, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(few, few, fc.oneof(ipv4, ipv6), (child, parent, address) => {
        fc.pre(isWithin(child, parent));
        const [first] = child;
        for (const inside of [address, first?.split('/')[0] ?? address]) {
          expect(!AddressRanges.of(child).contains(inside) || AddressRanges.of(parent).contains(inside)).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('the sender that failures are counted for', () => {
  test.each([
    ['10.1.2.3', '10.1.2.3'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['::FFFF:0a01:0203', '10.1.2.3'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002::', '2001:db8:1:2::/64'],
    ['fe80::1%eth0', 'fe80::/64'],
    ['not an address', UNKNOWN_SCOPE],
    ['127.1', UNKNOWN_SCOPE],
    ['', UNKNOWN_SCOPE],
  ])('%s counts as %s', (address, scope) => {
    expect(clientBucket(address)).toBe(scope);
  });

  test('changing the lower half of an IPv6 address changes nothing', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (lower) => {
        const groups = [48n, 32n, 16n, 0n].map((shift) => ((lower >> shift) & 0xffffn).toString(16));
        expect(clientBucket(`2001:db8:1:2:${groups.join(':')}`)).toBe('2001:db8:1:2::/64');
      }),
    );
  });
});
