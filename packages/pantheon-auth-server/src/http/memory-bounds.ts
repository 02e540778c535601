/**
 * Bounds the bytes of the bodies and of the answers of all connections together. Only large ones are counted. Small ones
 * are bounded by the number of connections, because a connection has only one request in work at a time
 * (`bounded-server.ts`).
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { clientBucket } from 'pantheon-auth';
import {
  ANSWERS_BYTES_MAX,
  BODIES_BYTES_MAX,
  SMALL_ANSWER_BYTES_MAX,
  SMALL_BODY_BYTES_MAX,
  UNAUTHENTICATED_PART,
} from '../settings/server-bounds.ts';
import { BoundedBytes, type BytesCount, type BytesOwner } from './bounded-bytes.ts';
import { addressOf, type BodyBound } from './caller.ts';

/**
 * Counts answers until they are sent. An answer that is a `Buffer` is not counted. It is either shared by all requests
 * (`reference-page.ts`) or small.
 */
export function boundAnswers(app: FastifyInstance): void {
  const answers = boundedBytes(ANSWERS_BYTES_MAX);
  app.addHook('onSend', (request, reply, payload, done) => {
    // Up to this many characters, each of at most three bytes.
    const isSmall = typeof payload !== 'string' || payload.length <= SMALL_ANSWER_BYTES_MAX;
    if (isSmall || reply.raw.closed) {
      done(null, payload);
      return;
    }
    // Node reserves three bytes for each character of text that it cannot send at once.
    const bytes = Buffer.from(payload);
    const { release } = answers.add(ownerOf(request), bytes.length, () => request.raw.socket.destroy());
    reply.raw.once('close', release);
    done(null, bytes);
  });
}

/**
 * Counts each body from its headers until it has arrived: its announced size (Content-Length), so that the sum is bounded
 * before the bytes arrive, or, if it is sent in chunks, what has arrived of it. `bodyBytesMax` is the largest body that the
 * route accepts. Null: the bodies of the route are too small to be counted.
 */
export function boundBodies(): (bodyBytesMax: number) => BodyBound | null {
  const bodies = boundedBytes(BODIES_BYTES_MAX);
  return (bodyBytesMax) => {
    if (bodyBytesMax <= SMALL_BODY_BYTES_MAX) return null;
    return (request, response) => {
      // The client has gone while its key was looked up: nothing would end the count.
      if (response.closed) return;
      const { raw, headers } = request;
      const isInChunks = headers['transfer-encoding'] !== undefined;
      // Fastify refuses a larger Content-Length before it reads the body.
      const bytes = isInChunks ? raw.readableLength : Math.min(Number(headers['content-length'] ?? 0), bodyBytesMax);
      if (!isInChunks && bytes <= SMALL_BODY_BYTES_MAX) return;
      const count = bodies.add(ownerOf(request), bytes, () => raw.socket.destroy());
      if (isInChunks) countChunks(request, count);
      raw.once('end', count.release);
      // Not that of the request: Node does not emit it when the answer is sent before the whole body has arrived.
      response.once('close', count.release);
    };
  };
}

/**
 * Counts each chunk when the parser of Node hands it over. A listener for `data` would start to read the body before
 * Fastify has its own listener, and the bytes would be lost.
 */
function countChunks({ raw }: FastifyRequest, count: BytesCount): void {
  const push = raw.push.bind(raw);
  raw.push = (chunk: Buffer | null) => {
    if (chunk !== null) count.grow(chunk.length);
    return push(chunk);
  };
}

function boundedBytes(bytesMax: number): BoundedBytes {
  return new BoundedBytes({ bytesMax, unauthenticatedBytesMax: UNAUTHENTICATED_PART * bytesMax });
}

/**
 * The bytes of a request are counted for the tenant of an authenticated caller, otherwise for the sender that failures are
 * counted for. A site has every address of an IPv6 /64, so all of them are one sender.
 */
function ownerOf(request: FastifyRequest): BytesOwner {
  const tenantId = request.acting?.principal.tenantId;
  if (tenantId !== undefined) return { name: tenantId, isAuthenticated: true };
  return { name: clientBucket(addressOf(request) ?? ''), isAuthenticated: false };
}
