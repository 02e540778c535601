import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ConnectionPlaces, type ConnectionState, type Place } from './connection-places.ts';

/** Opens connections and notes which are closed for others. */
function opened(connectionsMax: number) {
  const places = new ConnectionPlaces(connectionsMax);
  const closed: string[] = [];
  const stalled = new Set<string>();
  const open = (address: string, name: string): Place | null =>
    places.take({ address, close: () => closed.push(name), isStalled: () => stalled.has(name) });
  return { open, closed, stalled };
}

test('at the bound the sender with the most connections loses the one that is idle for longest', () => {
  const { open, closed } = opened(4);
  open('192.0.2.1', 'other');
  const first = open('192.0.2.2', 'first');
  open('192.0.2.2', 'second');
  open('192.0.2.2', 'third');
  first?.becomes('at_work');
  first?.becomes('idle');
  expect(open('192.0.2.3', 'new')).not.toBeNull();
  expect(open('192.0.2.4', 'newer')).not.toBeNull();
  expect(closed).toEqual(['second', 'third']);
});

test('a sender that has as many as any other replaces its own connections, and takes none from others', () => {
  const { open, closed } = opened(4);
  open('192.0.2.1', 'other');
  for (const name of ['1', '2', '3', '4', '5']) open('192.0.2.2', name);
  expect(closed).toEqual(['1', '2']);
});

test('all addresses of an IPv6 /64 are one sender', () => {
  const { open, closed } = opened(4);
  open('192.0.2.1', 'a');
  open('192.0.2.2', 'b');
  open('2001:db8::1', 'first of the network');
  open('2001:db8::2', 'second of the network');
  open('192.0.2.3', 'new');
  expect(closed).toEqual(['first of the network']);
});

test('a connection that the service works for is not closed: the new one is refused until one is idle', () => {
  const { open, closed } = opened(2);
  const places = [open('192.0.2.1', 'first'), open('192.0.2.1', 'second')];
  for (const place of places) place?.becomes('at_work');
  expect(open('192.0.2.2', 'refused')).toBeNull();
  places[1]?.becomes('idle');
  expect(open('192.0.2.2', 'new')).not.toBeNull();
  expect(closed).toEqual(['second']);
});

test('a sender that has more loses no place to one whose connections are all at work and that has as many', () => {
  const { open, closed } = opened(3);
  for (const name of ['1', '2']) open('192.0.2.1', name)?.becomes('at_work');
  open('192.0.2.2', 'idle');
  expect(open('192.0.2.1', 'refused')).toBeNull();
  expect(closed).toEqual([]);
});

test('a stalled connection is closed when none of its sender is idle, unless its client has gone on', () => {
  const { open, closed, stalled } = opened(3);
  for (const name of ['1', '2', '3']) {
    stalled.add(name);
    const place = open('192.0.2.1', name);
    place?.becomes('at_work');
    place?.becomes('stalled');
  }
  stalled.delete('1');
  expect(open('192.0.2.2', 'new')).not.toBeNull();
  expect(closed).toEqual(['2']);
});

test('a place that was left is free, and leaving it twice frees one', () => {
  const { open, closed } = opened(2);
  const place = open('192.0.2.1', 'a');
  open('192.0.2.2', 'b')?.becomes('at_work');
  place?.leave();
  place?.leave();
  place?.becomes('idle');
  open('192.0.2.3', 'c')?.becomes('at_work');
  expect(open('192.0.2.4', 'refused')).toBeNull();
  expect(closed).toEqual([]);
});

interface Open {
  readonly sender: string;
  state: ConnectionState;
  place: Place | null;
}

const STEP = fc.record({
  address: fc.constantFrom('192.0.2.1', '192.0.2.2', '2001:db8::1', '2001:db8::2'),
  act: fc.constantFrom<'open' | 'leave' | ConnectionState>('open', 'open', 'leave', 'idle', 'at_work', 'stalled'),
  at: fc.nat(),
});

test('whatever happens, a connection is closed only at the bound, and only one that may be, of a sender with the most', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6 }), fc.array(STEP, { maxLength: 80 }), (most, steps) => {
      const places = new ConnectionPlaces(most);
      const all = new Set<Open>();
      const closed: Open[] = [];
      const countOf = (sender: string): number => [...all].filter((one) => one.sender === sender).length;
      for (const { address, act, at } of steps) {
        const one = [...all][at % Math.max(all.size, 1)];
        if (act === 'open') {
          const made: Open = { sender: address.includes(':') ? 'network' : address, state: 'idle', place: null };
          const mayBeClosed = [...all].filter(
            ({ sender, state }) =>
              state !== 'at_work' && (sender === made.sender || countOf(sender) > countOf(made.sender)),
          );
          const largest = Math.max(...mayBeClosed.map(({ sender }) => countOf(sender)));
          made.place = places.take({ address, isStalled: () => true, close: () => closed.push(made) });
          const isFull = all.size === most;
          expect(made.place !== null).toBe(!isFull || mayBeClosed.length > 0);
          const victim = closed.pop();
          expect(victim !== undefined).toBe(isFull && mayBeClosed.length > 0);
          if (victim !== undefined) {
            expect(mayBeClosed).toContain(victim);
            expect(countOf(victim.sender)).toBe(largest);
            all.delete(victim);
          }
          if (made.place !== null) all.add(made);
        } else if (act === 'leave') {
          one?.place?.leave();
          if (one !== undefined) all.delete(one);
        } else if (one !== undefined) {
          one.place?.becomes(act);
          one.state = act;
        }
      }
    }),
  );
});
