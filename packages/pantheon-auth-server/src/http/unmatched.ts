/**
 * Answers requests that match no route: OPTIONS with 204 and the methods of the path, another method with 405, an
 * unknown path with 404.
 */
import type { FastifyInstance } from 'fastify';
import { PantheonError } from 'pantheon-auth';

/** An address and one of its methods. */
export interface Row {
  readonly method: string;
  /** The path pattern in Fastify's syntax. */
  readonly url: string;
}

export function answerUnmatched(app: FastifyInstance, rows: readonly Row[]): void {
  const table = new MethodTable(rows);
  // In a hook, so that the body is not read.
  app.addHook('onRequest', async (request, reply) => {
    if (!request.is404) return;
    const methods = table.methodsOf(request.url.split('?', 1)[0] ?? '');
    if (methods.length === 0) throw new PantheonError('not_found');
    reply.header('allow', methods.join(', '));
    if (request.method !== 'OPTIONS') throw new PantheonError('method_not_allowed');
    await reply.code(204).send();
  });
}

/** Which methods an address has. */
class MethodTable {
  readonly #rows: readonly { readonly pattern: RegExp; readonly method: string }[];

  constructor(rows: readonly Row[]) {
    this.#rows = rows.map(({ method, url }) => ({ method, pattern: patternOf(url) }));
  }

  /** Empty when the path does not exist. `*` stands for the service as a whole (RFC 9110 section 9.3.7). */
  methodsOf(path: string): readonly string[] {
    const matching = this.#rows.filter(({ pattern }) => path === '*' || pattern.test(path));
    const methods = new Set(matching.flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method])));
    return methods.size === 0 ? [] : [...methods, 'OPTIONS'];
  }
}

function patternOf(url: string): RegExp {
  const escaped = url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replace(/::|:[a-z]+/gi, (part) => (part === '::' ? ':' : '[^/]+'))}$`);
}
