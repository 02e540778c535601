import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { normalAddress } from './address.ts';
import { TrustedProxies } from './client-address.ts';

describe('an address is normalized to one form', () => {
  test.each([
    ['203.0.113.7', '203.0.113.7'],
    ['203.0.113.7:51234', '203.0.113.7'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['::FFFF:cb00:7107', '203.0.113.7'],
    ['0:0:0:0:0:ffff:203.0.113.7', '203.0.113.7'],
    ['[::ffff:203.0.113.7]:443', '203.0.113.7'],
    ['::ffff:203.0.113.7%eth0', '203.0.113.7'],
    ['2001:db8::1', '2001:db8::1'],
    ['2001:0DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:443', '2001:db8::1'],
    ['[2001:db8::1%eth0]:443', '2001:db8::1'],
    ['2001:db8::1%25', '2001:db8::1'],
  ])('%s becomes %s', (written, normal) => {
    expect(normalAddress(written)).toBe(normal);
    expect(normalAddress(normal)).toBe(normal);
  });

  test.each([
    ...['', ' ', 'unknown', '_hidden', '127.1', '0x7f.0.0.1', '2130706433', '010.0.0.1', '1.2.3.4.5', '1.2.3.4/8'],
    ...['1.2.3.4:', '1.2.3.4:x', '1.2.3.4:123456', '1.2.3.4:1:1', '[1.2.3.4]', '[1.2.3.4]:80', '[]', '[::1', '::1]'],
    ...['[::1]x', '[[::1]]', '::ffff:1.2.3.4:80', '1.2.3.4, 5.6.7.8', '"1.2.3.4"', 'localhost', '\u0661.2.3.4'],
    `[${'0'.repeat(100)}::1]`,
  ])('%j is not an address', (written) => {
    expect(normalAddress(written)).toBeNull();
  });

  test('any text gives a normalized address, or nothing', () => {
    const piece = fc.constantFrom('1', '255', '.', ':', '::', '[', ']', '%', 'ffff', 'a', ' ', '203.0.113.7', '443');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const normal = normalAddress(pieces.join(''));
        expect(normal === null || normalAddress(normal) === normal).toBe(true);
      }),
    );
  });
});

describe('the client behind proxies', () => {
  const proxies = new TrustedProxies(['10.0.0.0/8', '::ffff:192.0.2.1', 'fd00::/8']);
  const from = (peer: string | null, ...headers: string[]) => proxies.clientAddress(peer, () => headers);

  test.each<[string, string | null, string[], string | null]>([
    ['nothing was said', '10.0.0.5', [], '10.0.0.5'],
    ['a stranger says something', '203.0.113.9', ['10.0.0.1'], '203.0.113.9'],
    ['one hop', '10.0.0.5', ['203.0.113.7'], '203.0.113.7'],
    ['what the client wrote itself', '10.0.0.5', ['10.0.0.9, 203.0.113.7'], '203.0.113.7'],
    ['trusted hops', '10.0.0.5', ['203.0.113.7, 10.0.0.6,10.0.0.7'], '203.0.113.7'],
    ['hops with ports', '10.0.0.5', ['203.0.113.7:51234, 10.0.0.6:443'], '203.0.113.7'],
    ['hops in brackets', 'fd00::1', ['[2001:db8::9]:1, [fd00::2%eth0]:443'], '2001:db8::9'],
    ['mapped hops', '::ffff:10.0.0.5', ['::ffff:203.0.113.7, [::ffff:10.0.0.6]:443, 192.0.2.1:1'], '203.0.113.7'],
    ['several headers', '10.0.0.5', ['198.51.100.1', '203.0.113.7, 10.0.0.6'], '203.0.113.7'],
    ['only trusted hops', '10.0.0.5', ['10.0.0.7:1, 10.0.0.6'], '10.0.0.7'],
    ['an empty header', '10.0.0.5', [''], null],
    ['an empty hop', '10.0.0.5', ['203.0.113.7, , 10.0.0.6'], null],
    ['an empty hop at the end', '10.0.0.5', ['203.0.113.7,'], null],
    ['a name', '10.0.0.5', ['203.0.113.7, unknown'], null],
    ['junk before a trusted hop', '10.0.0.5', ['203.0.113.7, x:443, 10.0.0.6'], null],
    ['junk before the client', '10.0.0.5', ['x, 203.0.113.7'], '203.0.113.7'],
    ['a socket without an address', null, ['203.0.113.7'], null],
  ])('%s', (_what, peer, headers, client) => {
    expect(from(peer, ...headers)).toBe(client);
  });

  test('the header is not read without trusted proxies', () => {
    const unread = () => {
      throw new Error('It was read.');
    };
    expect(new TrustedProxies([]).clientAddress('::ffff:203.0.113.7', unread)).toBe('203.0.113.7');
  });

  test.each(['', 'loopback', '10.0.0.0/33', '10.0.0.1:80', '127.1', '0.0.0.0/0', '::/0', '::ffff:0.0.0.0/96'])(
    '%j is refused as a trusted proxy',
    (range) => {
      expect(() => new TrustedProxies([range])).toThrow(TypeError);
    },
  );
});
