/**
 * Bounds what the answers to all connections hold together. Only the large ones are counted: the small
 * ones are bounded by the number of connections, because a connection has one request under way at a time
 * (`bounded-server.ts`).
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ANSWERS_BYTES_MAX, SMALL_ANSWER_BYTES_MAX } from '../settings/server-bounds.ts';
import { BytesUnderWay } from './bytes-under-way.ts';
import { addressOf } from './caller.ts';

/**
 * Counts answers until they are sent. An answer that is a `Buffer` is not counted: it is one that all requests share
 * (`reference-page.ts`), or small.
 */
export function boundAnswers(app: FastifyInstance): void {
  const answers = new BytesUnderWay(ANSWERS_BYTES_MAX);
  app.addHook('onSend', (request, reply, payload, done) => {
    // A character is at least a byte.
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

/** The tenant of an authenticated caller, otherwise the address. */
function holderOf(request: FastifyRequest): string {
  return request.acting?.principal.tenantId ?? `address ${addressOf(request) ?? ''}`;
}
