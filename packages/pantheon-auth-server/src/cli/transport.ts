/**
 * How a command reaches the API: one port, so that the same code and the same permissions hold over the network
 * (`remote-transport.ts`) and on the data folder of this machine (`local-transport.ts`).
 */
import { type PantheonAuth, PantheonError, type Secret } from 'pantheon-auth';
import { ApiRefusal } from './failure.ts';

export interface ApiRequest {
  /** An object goes as JSON, a form as a form (RFC 6749). */
  readonly body?: object | URLSearchParams;
  readonly headers?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** Default: the caller's own key. */
  readonly credential?: Credential;
}

/** What goes into `Authorization`. */
export type Credential =
  | { readonly scheme: 'bearer'; readonly secret: Secret }
  /** An OAuth client: the id of a key and the key. */
  | { readonly scheme: 'basic'; readonly id: string; readonly secret: Secret };

export interface ApiResponse {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** Parsed JSON; null when there was none. */
  readonly body: unknown;
}

export interface Transport {
  /** The engine, where it runs in this process: for what has no route. Null: a server is asked. */
  readonly engine: PantheonAuth | null;
  /** @throws PantheonError when there is no answer. A refusal is an answer. */
  request(method: string, path: string, request?: ApiRequest): Promise<ApiResponse>;
  close(): Promise<void>;
}

export type JsonBody = Readonly<Record<string, unknown>>;

/** Asks and expects a yes. @throws ApiRefusal when the answer is a no. */
export async function call(
  transport: Transport,
  method: string,
  path: string,
  request?: ApiRequest,
): Promise<JsonBody> {
  const { status, body } = await transport.request(method, path, request);
  const isObject = typeof body === 'object' && body !== null && !Array.isArray(body);
  if (status >= 200 && status < 300 && isObject) return body as JsonBody;
  if (isObject && (status < 200 || status >= 400)) throw new ApiRefusal(status, body as JsonBody);
  if (status >= 502 && status <= 504)
    throw new PantheonError('store_unavailable', { detail: `Something in between answered with status ${status}` });
  const isRedirect = status >= 300 && status < 400;
  const what = isRedirect ? 'redirects, and a key does not follow' : 'does not speak this API: is it the right URL?';
  throw new PantheonError('invalid_setting', { field: 'URL', detail: `The server ${what}` });
}

/** The parts of a request that go over any wire. The secret is revealed here and nowhere else. */
export function toWire(
  request: ApiRequest,
  credential: Credential,
): { readonly headers: Record<string, string>; readonly payload: string | undefined } {
  const { body, headers } = request;
  const isForm = body instanceof URLSearchParams;
  const type = isForm ? 'application/x-www-form-urlencoded' : 'application/json';
  return {
    headers: {
      accept: 'application/json',
      // The audit trail tells by it how a change was made.
      'user-agent': 'pantheon-auth-cli',
      ...(body !== undefined && { 'content-type': type }),
      ...headers,
      authorization: toAuthorization(credential),
    },
    payload: body === undefined ? undefined : isForm ? body.toString() : JSON.stringify(body),
  };
}

function toAuthorization(credential: Credential): string {
  if (credential.scheme === 'bearer') return `Bearer ${credential.secret.reveal()}`;
  return `Basic ${Buffer.from(`${credential.id}:${credential.secret.reveal()}`, 'latin1').toString('base64')}`;
}

/** Path and query. */
export function toTarget(path: string, query: ApiRequest['query'] = {}): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`;
}
