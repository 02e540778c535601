/**
 * Answers requests that Node refuses before they reach a route: invalid HTTP, headers or a body that do not arrive in
 * time, an unknown `Expect`. The answer is a problem document as everywhere else.
 */
import { type RequestListener, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { type ErrorCode, errorRefusal, PantheonError } from 'pantheon-auth';
import { securityHeaders } from './security-headers.ts';

/** Maps error codes of Node to codes of this service. */
const CODES_OF_NODE: ReadonlyMap<string | undefined, ErrorCode> = new Map([
  ['ERR_HTTP_REQUEST_TIMEOUT', 'request_timeout'],
  // The client closed its side before the request was complete.
  ['HPE_INVALID_EOF_STATE', 'request_timeout'],
  ['HPE_HEADER_OVERFLOW', 'headers_too_large'],
]);

const DETAILS: Partial<Record<ErrorCode, string>> = { invalid_request: 'The bytes received are not an HTTP request.' };

type SiteConfig = Parameters<typeof securityHeaders>[0];
type ClientError = Error & { readonly code?: string };

/** Connections whose request was answered before all of it had arrived. */
const answeredEarly = new WeakSet<Socket>();

/**
 * Remembers these connections, so that no second answer is sent when the rest of such a request is invalid or does not
 * arrive.
 */
export function noteEarlyAnswers(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ raw }) => void answeredEarly.delete(raw.socket));
  app.addHook('onResponse', async ({ raw }) => {
    if (!raw.complete) answeredEarly.add(raw.socket);
  });
}

/** For bytes that are not an HTTP request. The connection is closed, because the parser cannot continue on it. */
export function brokenRequestHandler(config: SiteConfig) {
  return function answerBrokenRequest(this: FastifyInstance, error: ClientError, socket: Socket): void {
    this.log.debug({ code: error.code }, 'a request could not be read');
    if (!socket.writable || error.code === 'ECONNRESET' || answeredEarly.has(socket)) {
      socket.destroy();
      return;
    }
    const { status, headers, body } = answerOf(CODES_OF_NODE.get(error.code) ?? 'invalid_request', config);
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
    socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, '', body].join('\r\n'));
  };
}

/** For an `Expect` that is not `100-continue`: without a listener Node answers it with an empty 417. */
export function answerExpectation(config: SiteConfig): RequestListener {
  return (_request, response) => {
    const { status, headers, body } = answerOf('expectation_failed', config);
    response.writeHead(status, headers).end(body);
  };
}

function answerOf(code: ErrorCode, config: SiteConfig) {
  const detail = DETAILS[code];
  const refusal = errorRefusal(new PantheonError(code, detail === undefined ? {} : { detail }), null);
  const body = JSON.stringify(refusal.body);
  const headers = {
    ...securityHeaders(config),
    ...refusal.headers,
    'content-length': String(Buffer.byteLength(body)),
    // What follows on this connection is the body of the refused request.
    connection: 'close',
  };
  return { status: refusal.status, headers, body };
}
