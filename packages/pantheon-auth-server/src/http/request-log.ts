/**
 * One log line per answered request: method, route, status, duration and, for an error, the actual cause. Never the URL
 * as it was sent, a header or a body.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from './logging.ts';

/** A request that was answered. */
export interface Answered {
  readonly method: string;
  /** The pattern of the route and not the URL, so that the number of metric labels is bounded. */
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
    // Node refuses unknown methods, so the number of values is small.
    method: request.method,
    route: request.routeOptions.url ?? NO_ROUTE,
    status: reply.statusCode,
    durationMs: Math.round(reply.elapsedTime * 1_000) / 1_000,
  };
}
