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
import { BoundedBytes, type BytesOwner } from './bounded-bytes.ts';
import { addressOf } from './caller.ts';

/**
 * Counts answers until they are sent. An answer that is a `Buffer` is not counted. It is either shared by all requests
 * (`reference-page.ts`) or small.
 */
export function boundAnswers(app: FastifyInstance): void {
  const answers = boundedBytes(ANSWERS_BYTES_MAX);
  app.addHook('onSend', (request, reply, payload, done) => {
    // Up to this many characters, each of at most three bytes.
    if (typeof payload !== 'string' || payload.length <= SMALL_ANSWER_BYTES_MAX) {
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

/** Called with a request before its body is read. */
export type BodyBound = (request: FastifyRequest) => void;

/**
 * Counts the announced size (Content-Length) of each body from its headers until it has arrived, so that the sum is bounded
 * before the bytes arrive. `bodyBytesMax` is the largest body that the route accepts. Null: the bodies of the route are too
 * small to be counted.
 */
export function boundBodies(): (bodyBytesMax: number) => BodyBound | null {
  const bodies = boundedBytes(BODIES_BYTES_MAX);
  return (bodyBytesMax) => {
    if (bodyBytesMax <= SMALL_BODY_BYTES_MAX) return null;
    return (request) => {
      // A body without a Content-Length is sent in chunks. Fastify refuses a larger Content-Length before it reads the body.
      const bytes = Math.min(Number(request.headers['content-length'] ?? bodyBytesMax), bodyBytesMax);
      if (bytes <= SMALL_BODY_BYTES_MAX) return;
      const { release } = bodies.add(ownerOf(request), bytes, () => request.raw.socket.destroy());
      request.raw.once('end', release).once('close', release);
    };
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
