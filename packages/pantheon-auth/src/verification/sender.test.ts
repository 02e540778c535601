import { describe, expect, test } from 'vitest';
import { senderOf, shareOf } from './sender.ts';

const accountOf = (address: string | null, askedBy: string | null = null) => shareOf({ address, askedBy }).account;
const ownerOf = (address: string | null, askedBy: string | null = null) => shareOf({ address, askedBy }).owner;

describe('whose a failure is', () => {
  test('an IPv6 sender is its /64', () => {
    expect(accountOf('2001:db8::dead:beef')).toBe(accountOf('2001:db8::1'));
    expect(accountOf('2001:db8:0:1::1')).not.toBe(accountOf('2001:db8::1'));
  });

  test('IPv4 written as IPv6 is one sender with IPv4, and every IPv4 address is its own', () => {
    expect(accountOf('::ffff:10.0.0.1')).toBe(accountOf('10.0.0.1'));
    expect(accountOf('::ffff:10.0.0.2')).not.toBe(accountOf('10.0.0.1'));
  });

  test('all that is not an address is one sender', () => {
    expect(accountOf('junk 1')).toBe(accountOf('junk 2'));
  });

  test('what a request says and is no address is not taken for a call in this process', () => {
    expect(senderOf({ ip: 'junk' }, null)).toEqual({ address: 'junk', askedBy: null });
    expect(senderOf({ ip: '192.0.2.1:443' }, '192.0.2.1')).toEqual({ address: '192.0.2.1', askedBy: null });
    expect(senderOf({ askedBy: 'CallerCallerCall' }, null)).toEqual({ address: null, askedBy: 'CallerCallerCall' });
  });

  test('a call in this process that says nothing is charged to nobody', () => {
    expect(accountOf(null)).toBeNull();
  });
});

describe('an address that a caller names', () => {
  test('is not the address itself: whoever names it harms only what is their own', () => {
    expect(accountOf('10.0.0.1', 'CallerCallerCall')).not.toBe(accountOf('10.0.0.1'));
    expect(accountOf('10.0.0.1', 'CallerCallerCall')).not.toBe(accountOf('10.0.0.1', 'OtherOtherOtherO'));
    expect(ownerOf('10.0.0.1', 'CallerCallerCall')).not.toBe(ownerOf('10.0.0.1'));
  });

  test('is one of many that have one share together', () => {
    const addresses = ['10.0.0.1', '10.0.0.2', '2001:db8::1', null];
    expect(new Set(addresses.map((address) => ownerOf(address, 'CallerCallerCall'))).size).toBe(1);
    expect(new Set(addresses.map((address) => accountOf(address, 'CallerCallerCall'))).size).toBe(4);
  });
});
