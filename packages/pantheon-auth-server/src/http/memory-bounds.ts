/**
 * Bounds what the bodies and the answers of all connections hold together. Only the large ones are counted: the small
 * ones are bounded by the number of connections, because a connection has one request under way at a time
 * (`bounded-server.ts`).
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import {
  ANSWERS_BYTES_MAX,
  BODIES_BYTES_MAX,
  SMALL_ANSWER_BYTES_MAX,
  SMALL_BODY_BYTES_MAX,
} from '../settings/server-bounds.ts';
import { BytesUnderWay } from './bytes-under-way.ts';
import { addressOf } from './caller.ts';

/**
 * Counts answers until they are sent. An answer that is a `Buffer` is not counted: it is one that all requests share
 * (`reference-page.ts`), or small.
 */
export function boundAnswers(app: FastifyInstance): void {
  const answers = new BytesUnderWay(ANSWERS_BYTES_MAX);
  app.addHook('onSend', (request, reply, payload, done) => {
    // Up to this many characters, each of at most three bytes.
    if (typeof payload !== 'string' || payload.length <= SMALL_ANSWER_BYTES_MAX) {
      done(null, payload);
      return;
    }
    // Node reserves three bytes for each character of text that it cannot send at once.
    const bytes = Buffer.from(payload);
    reply.raw.once(
      'close',
      answers.add(holderOf(request), bytes.length, () => request.raw.socket.destroy()),
    );
    done(null, bytes);
  });
}

/** Called with a request before its body is read. */
export type BodyBound = (request: FastifyRequest) => void;

/**
 * Counts the bodies of routes until they have arrived, each as large as it says that it will be, so that they are
 * bounded before they are there. Takes the size up to which the route reads. Null: its bodies are too small to count.
 */
export function boundBodies(): (bodyBytesMax: number) => BodyBound | null {
  const bodies = new BytesUnderWay(BODIES_BYTES_MAX);
  return (bodyBytesMax) => {
    if (bodyBytesMax <= SMALL_BODY_BYTES_MAX) return null;
    return (request) => {
      // Without a length it is sent in chunks. One that says too much is refused by Fastify before it is read.
      const bytes = Math.min(Number(request.headers['content-length'] ?? bodyBytesMax), bodyBytesMax);
      if (bytes <= SMALL_BODY_BYTES_MAX) return;
      const release = bodies.add(holderOf(request), bytes, () => request.raw.socket.destroy());
      request.raw.once('end', release).once('close', release);
    };
  };
}

/** The tenant of an authenticated caller, otherwise the address. */
function holderOf(request: FastifyRequest): string {
  return request.acting?.principal.tenantId ?? `address ${addressOf(request) ?? ''}`;
}
