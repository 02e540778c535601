/**
 * The API of a server over HTTP. Credentials are sent to the given origin only, and over TLS unless it is a loopback
 * address.
 */
import { PantheonError } from 'pantheon-auth';
import { type ApiRequest, type ApiResponse, type Credential, type Transport, toTarget, toWire } from './transport.ts';

/** Longer than a healthy server needs to answer, and short enough for a waiting person. */
const TIMEOUT_MS = 15_000;
/** Beyond this the command fails, and the user decides when to repeat it. */
const RETRY_AFTER_SECONDS_MAX = 10;
/** A longer body is not read. The largest answer, a page of 200 keys with all their metadata, is shorter. */
const BODY_BYTES_MAX = 8 * 1_048_576;
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;

export interface RemoteTransportOptions {
  readonly url: string;
  /** Called only when a request needs it. */
  readonly callerKey: () => Promise<Credential>;
  /** Allows sending a credential over plain HTTP to another machine. */
  readonly insecureHttp?: boolean;
  /** For tests. */
  readonly wait?: (seconds: number) => Promise<void>;
}

export class RemoteTransport implements Transport {
  readonly engine: null = null;
  readonly #base: string;
  readonly #callerKey: () => Promise<Credential>;
  readonly #wait: (seconds: number) => Promise<void>;

  /** @throws PantheonError `invalid_setting`. */
  constructor({ url, callerKey, insecureHttp = false, wait = waitSeconds }: RemoteTransportOptions) {
    this.#base = parseServerUrl(url, insecureHttp);
    this.#callerKey = callerKey;
    this.#wait = wait;
  }

  async request(method: string, path: string, request: ApiRequest = {}): Promise<ApiResponse> {
    const credential = request.credential ?? (await this.#callerKey());
    const first = await this.#send(method, path, request, credential);
    const seconds = retryAfter(first, method);
    if (seconds === null) return first;
    await this.#wait(seconds);
    return this.#send(method, path, request, credential);
  }

  async close(): Promise<void> {}

  async #send(method: string, path: string, request: ApiRequest, credential: Credential): Promise<ApiResponse> {
    const { headers, payload } = toWire(request, credential);
    try {
      const response = await fetch(this.#base + toTarget(path, request.query), {
        method,
        headers,
        ...(payload !== undefined && { body: payload }),
        // Redirects are not followed, so that the key is not sent to another server.
        redirect: 'manual',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const body = parseBody(await readBody(response));
      return { status: response.status, headers: Object.fromEntries(response.headers), body };
    } catch (cause) {
      if (cause instanceof PantheonError) throw cause;
      throw this.#noAnswer(cause, method);
    }
  }

  /** If the request was not sent, nothing happened. Otherwise the change may have been made. */
  #noAnswer(error: unknown, method: string): PantheonError {
    const reason = reasonOf(error);
    const isUnsent = NEVER_SENT.has(reason);
    const code = isUnsent || method === 'GET' ? 'store_unavailable' : 'outcome_unknown';
    return new PantheonError(code, { detail: `No answer from ${this.#base} (${reason})` });
  }
}

const NEVER_SENT: ReadonlySet<string> = new Set([
  ...['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'],
  ...['CERT_HAS_EXPIRED', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'ERR_TLS_CERT_ALTNAME_INVALID'],
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** The code of the network error, never its message, which may repeat a header. */
function reasonOf(error: unknown): string {
  const { cause = error } = Object(error) as { readonly cause?: unknown };
  const { code, name } = Object(cause) as { readonly code?: unknown; readonly name?: unknown };
  if (typeof code === 'string') return code;
  return name === 'TimeoutError' ? 'timeout' : 'connection failed';
}

/**
 * Seconds to wait before repeating the request once; null: do not repeat. A change is repeated only if the answer came
 * from this service and not from a proxy, and never after `outcome_unknown`.
 */
function retryAfter({ status, headers, body }: ApiResponse, method: string): number | null {
  if (status !== 429 && status !== 503) return null;
  const { code, error } = (body ?? {}) as { readonly code?: unknown; readonly error?: unknown };
  if (method !== 'GET' && (typeof (code ?? error) !== 'string' || code === 'outcome_unknown')) return null;
  const text = headers['retry-after'] ?? '';
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  return seconds <= RETRY_AFTER_SECONDS_MAX ? seconds : null;
}

function waitSeconds(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
}

async function readBody(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX)
      throw new PantheonError('invalid_setting', { field: 'URL', detail: 'The server does not speak this API' });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Null when the body is not JSON, such as an error page of a proxy. */
export function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function parseServerUrl(text: string, insecureHttp: boolean): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isPlain = url !== null && /^https?:$/.test(url.protocol) && url.search === '' && url.hash === '';
  if (!isPlain || url.username !== '' || url.password !== '')
    throw invalid('Write http(s)://host[:port][/path], without a user, query or fragment');
  if (url.protocol === 'http:' && !LOOPBACK.test(url.hostname) && !insecureHttp)
    throw invalid('Use https, or --insecure-http on a trusted network: the key would be sent unencrypted');
  return url.origin + url.pathname.replace(/\/+$/, '');
}

function invalid(detail: string): PantheonError {
  return new PantheonError('invalid_setting', { field: 'URL', detail });
}
