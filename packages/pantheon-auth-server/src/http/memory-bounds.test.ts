import { EventEmitter } from 'node:events';
import type { FastifyRequest } from 'fastify';
import { expect, test } from 'vitest';
import { BODIES_BYTES_MAX, BODY_BYTES_MAX, FORM_BYTES_MAX } from '../settings/server-bounds.ts';
import { boundBodies } from './memory-bounds.ts';

const UNAUTHENTICATED_BYTES_MAX = BODIES_BYTES_MAX / 2;

interface Sent {
  /** The headers announce the length. Null: the body is sent in chunks. */
  readonly length: number | null;
  readonly address?: string;
  readonly tenant?: string;
  /** The client has gone before the body is counted. */
  readonly hasGone?: boolean;
}

/** A request whose headers have arrived and whose body has not, as far as its bound reads it. */
class Sending extends EventEmitter {
  isClosed = false;
  /** Node closes it when it was sent, or when the client has gone. */
  readonly response = Object.assign(new EventEmitter(), { closed: false });
  readonly readableLength = 0;
  readonly socket = {
    destroy: () => {
      this.isClosed = true;
    },
  };

  push(_chunk: Buffer | null): boolean {
    return true;
  }

  requestOf({ length, address = '192.0.2.1', tenant }: Sent): FastifyRequest {
    const headers = length === null ? { 'transfer-encoding': 'chunked' } : { 'content-length': String(length) };
    const acting = tenant === undefined ? null : { principal: { tenantId: tenant } };
    return { raw: this, headers, clientAddress: address, acting } as unknown as FastifyRequest;
  }
}

function sender(): (sent: Sent) => Sending {
  const bodies = boundBodies();
  return (sent) => {
    const sending = new Sending();
    sending.response.closed = sent.hasGone === true;
    bodies(BODY_BYTES_MAX)?.(sending.requestOf(sent), sending.response);
    return sending;
  };
}

/** An address of one IPv6 /64. */
const inOneNetwork = (at: number): string => `2001:db8::${at.toString(16)}`;
/** Each is in an IPv6 /64 of its own. */
const inManyNetworks = (at: number): string => `2001:db8:0:${at.toString(16)}::1`;

test('all addresses of an IPv6 /64 are one sender: its bodies give way, and not that of another address', () => {
  const send = sender();
  const other = send({ length: FORM_BYTES_MAX, address: '198.51.100.7' });
  const most = UNAUTHENTICATED_BYTES_MAX / FORM_BYTES_MAX;
  const many = Array.from({ length: 2 * most }, (_, at) => send({ length: FORM_BYTES_MAX, address: inOneNetwork(at) }));
  expect(other.isClosed).toBe(false);
  expect(many.filter(({ isClosed }) => !isClosed).length).toBe(most - 1);
});

test('senders without a key have half of the room, and no body of a tenant gives way to them', () => {
  const send = sender();
  const fill = BODIES_BYTES_MAX / FORM_BYTES_MAX;
  const tenants = Array.from({ length: fill / 2 }, () => send({ length: FORM_BYTES_MAX, tenant: 't' }));
  const many = Array.from({ length: fill }, (_, at) => send({ length: FORM_BYTES_MAX, address: inManyNetworks(at) }));
  expect(tenants.some(({ isClosed }) => isClosed)).toBe(false);
  expect(many.filter(({ isClosed }) => !isClosed).length).toBe(fill / 2);
  // A tenant may use the whole room.
  for (let at = 0; at < fill / 2; at += 1) tenants.push(send({ length: FORM_BYTES_MAX, tenant: 't' }));
  expect(tenants.some(({ isClosed }) => isClosed)).toBe(false);
  expect(many.some(({ isClosed }) => !isClosed)).toBe(false);
});

test('of a body in chunks that is counted which has arrived', () => {
  const send = sender();
  const inChunks = send({ length: null, tenant: 'a' });
  const fill = BODIES_BYTES_MAX / BODY_BYTES_MAX;
  const others = Array.from({ length: fill - 1 }, () => send({ length: BODY_BYTES_MAX, tenant: 'b' }));
  for (let at = 0; at < 16; at += 1) inChunks.push(Buffer.alloc(BODY_BYTES_MAX / 16));
  expect(others.some(({ isClosed }) => isClosed)).toBe(false);
  inChunks.push(Buffer.alloc(1));
  expect(others.filter(({ isClosed }) => isClosed).length).toBe(1);
  expect(inChunks.isClosed).toBe(false);
});

test('a body in chunks that announces nothing and sends nothing takes no room', () => {
  const send = sender();
  const tenant = send({ length: BODY_BYTES_MAX, tenant: 'a' });
  const chunked = Array.from({ length: 2 * (BODIES_BYTES_MAX / BODY_BYTES_MAX) }, () =>
    send({ length: null, tenant: 'b' }),
  );
  expect([tenant, ...chunked].some(({ isClosed }) => isClosed)).toBe(false);
});

test.each(['is answered before it has arrived', 'is sent by a client that has gone'])(
  'a body that %s takes no room',
  (how) => {
    const send = sender();
    const most = BODIES_BYTES_MAX / BODY_BYTES_MAX;
    const tenant = send({ length: BODY_BYTES_MAX, tenant: 'a' });
    for (let at = 0; at < 2 * most; at += 1) {
      const sending = send({ length: BODY_BYTES_MAX, tenant: 'a', hasGone: how.includes('gone') });
      sending.response.emit('close');
      expect(sending.isClosed).toBe(false);
    }
    expect(tenant.isClosed).toBe(false);
    expect(send({ length: FORM_BYTES_MAX }).isClosed).toBe(false);
  },
);
