/**
 * What the adapters share: their options, the question they ask, who was let in, and what every answer says. Knows no
 * framework and decides nothing.
 */
import { TrustedProxies } from '../domain/client-address.ts';
import { PantheonError } from '../foundation/errors.ts';
import {
  type AppTypes,
  type AuthenticateOptions,
  type Authentication,
  type AuthRequest,
  assertAuthenticateOptions,
  assertPermissionsToAsk,
  type Principal,
  permissionRefusal,
  type Refusal,
} from '../middleware.ts';

/** What is needed of a `PantheonAuth`. */
export interface RequestAuthenticator<App extends AppTypes = AppTypes> {
  authenticate(request: AuthRequest, options?: AuthenticateOptions<App>): Promise<Authentication<App>>;
}

/** Options of every adapter. `Incoming` is what its framework hands to a middleware. */
export interface GuardOptions<Incoming extends readonly unknown[], App extends AppTypes = AppTypes>
  extends AuthenticateOptions<App> {
  /**
   * The other end of the connection. Default: what the framework knows of the socket. A port, brackets, a zone and the
   * mapped form of IPv4 are left out; what is then no address is not known.
   */
  readonly address?: (...incoming: Incoming) => string | null | undefined;
  /**
   * Addresses and CIDR ranges of your own proxies, whose `X-Forwarded-For` is believed. Default: none, and the header is
   * not looked at, for any client can send one. Prefer it to what a framework makes of that header (`req.ip`): they
   * compare hops as they are written, and one proxy writes `10.0.0.5`, another `10.0.0.5:443`.
   */
  readonly trustedProxies?: readonly string[];
  /** Told in refusals as `instance`. Left out there when it is not 1 to 128 of letters, digits and `_.:~-`. */
  readonly requestId?: (...incoming: Incoming) => string | null | undefined;
  /** Called with every refusal before it is sent, for the log: `cause` and `error` say what the caller is not told. */
  readonly onRefused?: (refusal: Refusal, ...incoming: Incoming) => void;
}

/** A request as an adapter reads it. */
export type PresentedRequest = Omit<AuthRequest, 'requestId'>;

/** An answer depends on these, so no cache may give it to a request where they differ. */
const VARY = 'Authorization, X-API-Key';

/**
 * Set unless the application says otherwise: a stored answer would outlive the key that opened it, and shared caches
 * leave out by themselves only what was asked for with `Authorization` (RFC 9111 section 3.5), not with `X-API-Key`.
 */
export const CACHE_CONTROL = 'no-store';

/** Who was let in, with what a later refusal needs. */
interface Admission {
  readonly principal: Principal;
  readonly requestId: string | null;
  readonly onRefused: (refusal: Refusal) => void;
}

/**
 * By the framework's own request, and not as a property of it: nothing that copies input onto a request can forge an
 * entry, and reading one that is not there is an error and never `undefined`.
 */
const ADMISSIONS = new WeakMap<object, Admission>();

/** Asks for every request whether it may pass. */
export class Guard<Incoming extends readonly [object, ...unknown[]], App extends AppTypes = AppTypes> {
  readonly #auth: RequestAuthenticator<App>;
  readonly #options: GuardOptions<Incoming, App>;
  readonly #demand: AuthenticateOptions<App>;
  readonly #proxies: TrustedProxies;

  /** @throws PantheonError `invalid_setting` when the options ask for what cannot be asked. */
  constructor(auth: RequestAuthenticator<App>, options: GuardOptions<Incoming, App>) {
    const { address, trustedProxies = [], requestId, onRefused, ...demand } = options;
    assertAuthenticateOptions(demand);
    this.#proxies = proxiesOf(trustedProxies);
    this.#auth = auth;
    this.#options = options;
    this.#demand = demand;
  }

  /** The options with those of one route: it may ask for more permissions than all routes, never for fewer. */
  demandOf(route: AuthenticateOptions<App>): AuthenticateOptions<App> {
    const permissions = [...(this.#demand.permissions ?? []), ...(route.permissions ?? [])];
    const demand = { ...this.#demand, ...route, permissions };
    assertAuthenticateOptions(demand);
    return demand;
  }

  /** Remembers who is let in by the first of `incoming`, the framework's request. */
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

function proxiesOf(ranges: readonly string[]): TrustedProxies {
  try {
    return new TrustedProxies(ranges);
  } catch (cause) {
    const detail = 'Give IP addresses or CIDR ranges.';
    throw new PantheonError('invalid_setting', { field: 'trustedProxies', detail, cause });
  }
}

/** Who sent this request. @throws PantheonError `internal_error` when nobody asked: the route is not guarded. */
export function principalOf(request: object): Principal {
  return admissionOf(request).principal;
}

/**
 * Asks for permissions beyond those that let a request in; null: they are there.
 *
 * @throws PantheonError `invalid_setting` for what is no concrete permission and for none at all, at once; `internal_error`
 * from the question when the route is not guarded.
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

/**
 * Every value of a header, in the order of arrival. Node's `headers` keeps the first of two and so would hide the second;
 * `headersDistinct` sorts all headers to answer for two, and HTTP/2 requests do not have it.
 */
export function headerValues(rawHeaders: readonly string[], name: string): readonly string[] {
  const values: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const field = rawHeaders[at];
    if (field?.length === name.length && field.toLowerCase() === name) values.push(rawHeaders[at + 1] ?? '');
  }
  return values;
}

/** `Vary` with our fields, once: what CORS or another middleware put there stays. */
export function withVary(present: number | string | readonly string[] | null | undefined): string {
  if (present === undefined || present === null) return VARY;
  const fields = typeof present === 'object' ? present.join(', ') : String(present);
  return fields.includes(VARY) ? fields : `${fields}, ${VARY}`;
}

/**
 * What every answer to a guarded request says, for the adapters whose answers are `Response`s. In place, because a copy
 * of a response costs more than all of authentication; what refuses to be changed is copied.
 */
export function withAnswerHeaders(response: Response, limits: Readonly<Record<string, string>>): Response {
  // 0 is a network error and 101 a change of protocol: neither can be made again, and no cache keeps them.
  if (response.status < 200) return response;
  try {
    setAnswerHeaders(response.headers, limits);
    return response;
  } catch {
    // Redirects, and responses that came from elsewhere, have immutable headers.
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
  throw new PantheonError('internal_error', { detail: 'No principal: pantheonAuth does not guard this route.' });
}
