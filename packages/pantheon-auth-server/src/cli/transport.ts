/**
 * How a command calls the API: one port with two implementations, over the network (`remote-transport.ts`) and in
 * process on the database of this machine (`local-transport.ts`), with the same permissions.
 */
import { type PantheonAuth, PantheonError, type Secret } from 'pantheon-auth';
import { ApiRefusal } from './failure.ts';

export interface ApiRequest {
  /** An object is sent as JSON, `URLSearchParams` as a form (RFC 6749). */
  readonly body?: object | URLSearchParams;
  readonly headers?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** Default: the caller's own key. */
  readonly credential?: Credential;
}

/** The content of the `Authorization` header. */
export type Credential =
  | { readonly scheme: 'bearer'; readonly secret: Secret }
  /** An OAuth client: the id of a key and the key. */
  | { readonly scheme: 'basic'; readonly id: string; readonly secret: Secret };

export interface ApiResponse {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** Parsed JSON; null when the answer has no JSON body. */
  readonly body: unknown;
}

export interface Transport {
  /** The engine when it runs in this process, for calls that have no route. Null with a remote server. */
  readonly engine: PantheonAuth | null;
  /** @throws PantheonError when there is no answer. An error status is an answer and is returned. */
  request(method: string, path: string, request?: ApiRequest): Promise<ApiResponse>;
  close(): Promise<void>;
}

export type JsonBody = Readonly<Record<string, unknown>>;

/** Sends a request and returns the body of a success. @throws ApiRefusal for an error status. */
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
    throw new PantheonError('store_unavailable', {
      detail: `A proxy in front of the server answered with status ${status}`,
    });
  const isRedirect = status >= 300 && status < 400;
  const what = isRedirect
    ? 'redirects, and the key is not sent to another address'
    : 'does not speak this API: is it the right URL?';
  throw new PantheonError('invalid_setting', { field: 'URL', detail: `The server ${what}` });
}

/** The headers and body of a request. The only place of the command line that reveals a credential. */
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
      // Recorded in the audit trail, to show that the command line made the change.
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
