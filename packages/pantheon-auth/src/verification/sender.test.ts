import { describe, expect, test } from 'vitest';
import { senderOf, shareOf } from './sender.ts';

const accountOf = (address: string | null, askedBy: string | null = null) => shareOf({ address, askedBy }).account;
const ownerOf = (address: string | null, askedBy: string | null = null) => shareOf({ address, askedBy }).owner;

describe('the sender that a failure is counted for', () => {
  test('is the /64 of an IPv6 address', () => {
    expect(accountOf('2001:db8::dead:beef')).toBe(accountOf('2001:db8::1'));
    expect(accountOf('2001:db8:0:1::1')).not.toBe(accountOf('2001:db8::1'));
  });

  test('is the same for an IPv4 address written as IPv6, and another for every IPv4 address', () => {
    expect(accountOf('::ffff:10.0.0.1')).toBe(accountOf('10.0.0.1'));
    expect(accountOf('::ffff:10.0.0.2')).not.toBe(accountOf('10.0.0.1'));
  });

  test('is one for all texts that are not an address', () => {
    expect(accountOf('junk 1')).toBe(accountOf('junk 2'));
  });

  test('an invalid address of a request is not taken for a call in this process', () => {
    expect(senderOf({ ip: 'junk' }, null)).toEqual({ address: 'junk', askedBy: null });
    expect(senderOf({ ip: '192.0.2.1:443' }, '192.0.2.1')).toEqual({ address: '192.0.2.1', askedBy: null });
    expect(senderOf({ askedBy: 'CallerCallerCall' }, null)).toEqual({ address: null, askedBy: 'CallerCallerCall' });
  });

  test('a call in this process without an address is charged to no sender', () => {
    expect(accountOf(null)).toBeNull();
  });
});

describe('an address that a caller names', () => {
  test('is not the address itself: naming it affects only the caller', () => {
    expect(accountOf('10.0.0.1', 'CallerCallerCall')).not.toBe(accountOf('10.0.0.1'));
    expect(accountOf('10.0.0.1', 'CallerCallerCall')).not.toBe(accountOf('10.0.0.1', 'OtherOtherOtherO'));
    expect(ownerOf('10.0.0.1', 'CallerCallerCall')).not.toBe(ownerOf('10.0.0.1'));
  });

  test('is one of many that share one bucket per caller', () => {
    const addresses = ['10.0.0.1', '10.0.0.2', '2001:db8::1', null];
    expect(new Set(addresses.map((address) => ownerOf(address, 'CallerCallerCall'))).size).toBe(1);
    expect(new Set(addresses.map((address) => accountOf(address, 'CallerCallerCall'))).size).toBe(4);
  });
});
