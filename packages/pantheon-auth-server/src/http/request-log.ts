/**
 * One line per answered request: what was asked of which route, how it ended, how long it took and, where it was refused,
 * the true cause. Never the address as it was sent, never a header, never a body.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from './logging.ts';

/** A request that was answered. */
export interface Answered {
  readonly method: string;
  /** The pattern of the route, so that there are as many as routes. */
  readonly route: string;
  readonly status: number;
  readonly durationMs: number;
}

const NO_ROUTE = 'unmatched';

export function logRequests(app: FastifyInstance, logger: Logger, onAnswered?: (answered: Answered) => void): void {
  app.addHook('onResponse', async (request, reply) => {
    const answered = toAnswered(request, reply);
    onAnswered?.(answered);
    const { method, route, status, durationMs } = answered;
    const keyId = request.outcome?.keyId ?? request.acting?.principal.keyId ?? null;
    const cause = request.outcome?.cause ?? null;
    const line = {
      requestId: request.id,
      method,
      route,
      status,
      durationMs,
      ...(keyId !== null && { keyId }),
      ...(cause !== null && { cause }),
    };
    if (status >= 500) logger.error(line, 'request');
    else logger.info(line, 'request');
  });
}

function toAnswered(request: FastifyRequest, reply: FastifyReply): Answered {
  return {
    // Node takes no method that it does not know, so this is one of few.
    method: request.method,
    route: request.routeOptions.url ?? NO_ROUTE,
    status: reply.statusCode,
    durationMs: Math.round(reply.elapsedTime * 1_000) / 1_000,
  };
}
