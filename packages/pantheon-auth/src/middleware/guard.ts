/**
 * The common code of the adapters: options, authentication, the principal of a request, and response headers.
 * Independent of frameworks.
 */
import { TrustedProxies } from '../domain/client-address.ts';
import { PantheonError } from '../foundation/errors.ts';
import {
  type AppTypes,
  type AuthenticateOptions,
  type Authentication,
  type AuthRequest,
  type Principal,
  permissionRefusal,
  type Refusal,
} from '../middleware.ts';
import { assertAuthenticateOptions, assertPermissionsToAsk } from './authenticate-options.ts';

/** The part of `PantheonAuth` that adapters need. */
export interface RequestAuthenticator<App extends AppTypes = AppTypes> {
  authenticate(request: AuthRequest, options?: AuthenticateOptions<App>): Promise<Authentication<App>>;
}

/** Options of every adapter. `Incoming`: the arguments that the framework passes to a middleware. */
export interface GuardOptions<Incoming extends readonly unknown[], App extends AppTypes = AppTypes>
  extends AuthenticateOptions<App> {
  /**
   * Returns the address of the peer. Default: that of the socket. It is normalised (no port, brackets or zone;
   * IPv4-mapped IPv6 as IPv4). A result that is no address counts as not known.
   */
  readonly address?: (...incoming: Incoming) => string | null | undefined;
  /**
   * Addresses and CIDR ranges of your proxies, whose `X-Forwarded-For` is trusted. Default: none; the header is then
   * ignored, because any client can send it. Use this instead of the client address of your framework (`req.ip`), which
   * compares addresses as they are written: some proxies write `10.0.0.5`, others `10.0.0.5:443`.
   */
  readonly trustedProxies?: readonly string[];
  /**
   * Returns the request id, which refusals contain as `instance`. Omitted if it is not 1 to 128 letters, digits and
   * `_.:~-`.
   */
  readonly requestId?: (...incoming: Incoming) => string | null | undefined;
  /**
   * Called with every refusal before it is sent, for logging. `cause` and `error` contain what the caller is not told.
   */
  readonly onRefused?: (refusal: Refusal, ...incoming: Incoming) => void;
}

/** The parts of a request that an adapter reads. */
export type PresentedRequest = Omit<AuthRequest, 'requestId'>;

/** Answers depend on these headers, so a cache must not reuse an answer when they differ. */
const VARY = 'Authorization, X-API-Key';

/**
 * Set unless the application sets it: a cached answer would stay available after the key is revoked. Shared caches
 * exclude only requests with `Authorization` by themselves (RFC 9111 section 3.5), not those with `X-API-Key`.
 */
export const CACHE_CONTROL = 'no-store';

/** The authenticated caller of a request, with data for a later refusal. */
interface Admission {
  readonly principal: Principal;
  readonly requestId: string | null;
  readonly onRefused: (refusal: Refusal) => void;
}

/**
 * Keyed by the request object of the framework, and not stored as a property of it: code that copies input onto a
 * request cannot forge an entry, and a missing one is an error and not `undefined`.
 */
const ADMISSIONS = new WeakMap<object, Admission>();

/** Authenticates the requests of one adapter. */
export class Guard<Incoming extends readonly [object, ...unknown[]], App extends AppTypes = AppTypes> {
  readonly #auth: RequestAuthenticator<App>;
  readonly #options: GuardOptions<Incoming, App>;
  readonly #demand: AuthenticateOptions<App>;
  readonly #proxies: TrustedProxies;

  /** @throws PantheonError `invalid_setting` when an option is invalid. */
  constructor(auth: RequestAuthenticator<App>, options: GuardOptions<Incoming, App>) {
    const { address, trustedProxies = [], requestId, onRefused, ...demand } = options;
    assertAuthenticateOptions(demand);
    assertCallbacks({ address, requestId, onRefused });
    this.#proxies = proxiesOf(trustedProxies);
    this.#auth = auth;
    this.#options = options;
    this.#demand = demand;
  }

  /** The options with those of one route, which can add permissions but not remove any. */
  demandOf(route: AuthenticateOptions<App>): AuthenticateOptions<App> {
    assertAuthenticateOptions(route);
    const permissions = [...(this.#demand.permissions ?? []), ...(route.permissions ?? [])];
    return { ...this.#demand, ...route, permissions };
  }

  /**
   * Authenticates a request. The first of `incoming` is the framework's request object, under which the caller is
   * stored.
   */
  async admit(
    presented: PresentedRequest,
    incoming: Incoming,
    demand: AuthenticateOptions<App> = this.#demand,
  ): Promise<Authentication<App>> {
    const options = this.#options;
    const requestId = options.requestId?.(...incoming) ?? null;
    const peer = options.address === undefined ? presented.address : options.address(...incoming);
    const address = this.#proxies.clientAddress(peer, () => presented.header('x-forwarded-for'));
    const request = { ...presented, address, ...(requestId !== null && { requestId }) };
    const authentication = await this.#auth.authenticate(request, demand);
    const onRefused = (refusal: Refusal): void => options.onRefused?.(refusal, ...incoming);
    if (authentication.authenticated) {
      ADMISSIONS.set(incoming[0], { principal: authentication.principal, requestId, onRefused });
    } else {
      onRefused(authentication.refusal);
    }
    return authentication;
  }
}

function assertCallbacks(callbacks: Readonly<Record<string, unknown>>): void {
  for (const [field, callback] of Object.entries(callbacks)) {
    if (callback !== undefined && typeof callback !== 'function')
      throw new PantheonError('invalid_setting', { field, detail: 'A function.' });
  }
}

function proxiesOf(ranges: readonly string[]): TrustedProxies {
  try {
    return new TrustedProxies(ranges);
  } catch (cause) {
    const detail = 'Give IP addresses or CIDR ranges.';
    throw new PantheonError('invalid_setting', { field: 'trustedProxies', detail, cause });
  }
}

/**
 * The authenticated caller of a request. @throws PantheonError `internal_error` when the request was not authenticated.
 */
export function principalOf(request: object): Principal {
  return admissionOf(request).principal;
}

/**
 * Returns a function that checks further permissions of a request; it returns null if they are granted.
 *
 * @throws PantheonError `invalid_setting` for a malformed permission, a pattern, or an empty list; the returned
 * function throws `internal_error` when the request was not authenticated.
 */
export function permissionQuestion(wanted: string | readonly string[]): (request: object) => Refusal | null {
  const permissions = typeof wanted === 'string' ? [wanted] : wanted;
  assertPermissionsToAsk(permissions);
  return (request) => {
    const { principal, requestId, onRefused } = admissionOf(request);
    const refusal = permissionRefusal(principal, permissions, requestId);
    if (refusal !== null) onRefused(refusal);
    return refusal;
  };
}

/** Adds our fields to `Vary` once, and keeps those that are there. */
export function withVary(present: number | string | readonly string[] | null | undefined): string {
  if (present === undefined || present === null) return VARY;
  const fields = typeof present === 'object' ? present.join(', ') : String(present);
  return fields.includes(VARY) ? fields : `${fields}, ${VARY}`;
}

/**
 * Sets the headers of every answer, for adapters with `Response` objects. Changes the response in place, because
 * copying costs more than the whole authentication. A response with immutable headers is copied.
 */
export function withAnswerHeaders(response: Response, limits: Readonly<Record<string, string>>): Response {
  // Status 0 is a network error and 101 a protocol switch: neither can be copied, and caches do not store them.
  if (response.status < 200) return response;
  try {
    setAnswerHeaders(response.headers, limits);
    return response;
  } catch {
    // Redirects and fetched responses have immutable headers.
    const copy = new Response(response.body, response);
    setAnswerHeaders(copy.headers, limits);
    return copy;
  }
}

function setAnswerHeaders(headers: Headers, limits: Readonly<Record<string, string>>): void {
  headers.set('vary', withVary(headers.get('vary')));
  if (!headers.has('cache-control')) headers.set('cache-control', CACHE_CONTROL);
  for (const [name, value] of Object.entries(limits)) headers.set(name, value);
}

function admissionOf(request: object): Admission {
  const admission = ADMISSIONS.get(request);
  if (admission !== undefined) return admission;
  throw new PantheonError('internal_error', { detail: 'No principal: this route has no pantheonAuth.' });
}
