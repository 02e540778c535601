/**
 * Parses a token request (RFC 6749, RFC 8693): the grant, the key, and the requested audiences, permissions and
 * lifetime. A malformed request is an OAuth error. The engine decides whether the key may have the token.
 */
import {
  AUDIENCES_MAX,
  isPermission,
  isPermissionPattern,
  PERMISSIONS_MAX,
  parseKey,
  type TokenOptions,
} from 'pantheon-auth';
import type { Form } from '../http/bodies.ts';
import { type OAuthCode, OAuthError } from '../http/oauth-error.ts';

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const GRANT_TYPES: readonly string[] = ['client_credentials', TOKEN_EXCHANGE];
/** `none`: a token exchange needs no client authentication, because the subject token is the key itself. */
export const CLIENT_AUTH_METHODS: readonly string[] = ['client_secret_basic', 'client_secret_post', 'none'];

export const API_KEY_TYPE = 'urn:pantheon-auth:params:oauth:token-type:api-key';
const ACCESS_TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:access_token';
const JWT_TYPE = 'urn:ietf:params:oauth:token-type:jwt';

/** A parsed token request. */
export interface TokenRequest {
  /** The key string: of the key that the token is for, or, if `isForAnother`, of the client. */
  readonly key: string;
  /** The subject token is not the client's own key. No token is issued; an authenticated client is told why. */
  readonly isForAnother: boolean;
  readonly tokenOptions: TokenOptions;
  /** `issued_token_type` of the answer to a token exchange. */
  readonly issuedTokenType: string | null;
  /** The answer when the key is denied, whatever the cause. */
  readonly refusal: { readonly code: OAuthCode; readonly description: string };
}

interface Client {
  readonly id: string;
  readonly secret: string;
}

export function readTokenRequest(form: Form, authorization: string | null): TokenRequest {
  const grant = only(form, 'grant_type');
  if (grant === null) throw new OAuthError('invalid_request', 'grant_type is missing.');
  if (grant === 'client_credentials') return clientCredentials(form, clientOf(form, authorization));
  if (grant === TOKEN_EXCHANGE) return tokenExchange(form, clientOf(form, authorization));
  throw new OAuthError('unsupported_grant_type', 'client_credentials and token exchange are supported.');
}

const BAD_CLIENT = { code: 'invalid_client', description: 'The client could not be authenticated.' } as const;
export const BAD_SUBJECT = { code: 'invalid_request', description: 'The subject token is not valid.' } as const;

function clientCredentials(form: Form, client: Client | null): TokenRequest {
  // Without a client the key is an empty string, which is denied like any malformed key and counted for its sender.
  const key = client === null ? '' : keyOf(client);
  return { key, isForAnother: false, tokenOptions: wishOf(form), issuedTokenType: null, refusal: BAD_CLIENT };
}

function tokenExchange(form: Form, client: Client | null): TokenRequest {
  const subject = only(form, 'subject_token');
  if (subject === null) throw new OAuthError('invalid_request', 'subject_token is missing.');
  if (only(form, 'subject_token_type') !== API_KEY_TYPE)
    throw new OAuthError('invalid_request', `subject_token_type must be ${API_KEY_TYPE}.`);
  if (form.has('actor_token') || form.has('actor_token_type'))
    throw new OAuthError('invalid_request', 'Actor tokens are not supported.');
  const issuedTokenType = only(form, 'requested_token_type') ?? ACCESS_TOKEN_TYPE;
  if (issuedTokenType !== ACCESS_TOKEN_TYPE && issuedTokenType !== JWT_TYPE)
    throw new OAuthError('invalid_request', 'requested_token_type must be an access token or a JWT.');
  const tokenOptions = wishOf(form);
  // A client may exchange its own key only. A different subject token would be delegation, which is not offered.
  if (client !== null) {
    const key = keyOf(client);
    return { key, isForAnother: key !== subject, tokenOptions, issuedTokenType, refusal: BAD_CLIENT };
  }
  const named = only(form, 'client_id');
  const key = named === null || parseKey(subject)?.id === named ? subject : '';
  return { key, isForAnother: false, tokenOptions, issuedTokenType, refusal: BAD_SUBJECT };
}

/** The client id is the id of the key, the client secret the key string. */
function keyOf({ id, secret }: Client): string {
  return parseKey(secret)?.id === id ? secret : '';
}

function clientOf(form: Form, authorization: string | null): Client | null {
  const secret = only(form, 'client_secret');
  if (authorization === null) return secret === null ? null : { id: only(form, 'client_id') ?? '', secret };
  if (secret !== null) throw new OAuthError('invalid_request', 'More than one client authentication was sent.');
  const client = basicOf(authorization);
  const named = only(form, 'client_id');
  if (client === null || (named !== null && named !== client.id))
    throw new OAuthError(BAD_CLIENT.code, BAD_CLIENT.description);
  return client;
}

const BASIC = /^basic ([A-Za-z0-9+/]+={0,2})$/i;

/** Both parts are form-encoded before they are joined (RFC 6749 section 2.3.1): some clients write `_` as `%5F`. */
function basicOf(authorization: string): Client | null {
  const encoded = BASIC.exec(authorization)?.[1] ?? '';
  const bytes = Buffer.from(encoded, 'base64');
  const [id, secret, ...more] = bytes.toString('latin1').split(':').map(formDecoded);
  const isExact = bytes.toString('base64') === encoded && id != null && secret != null;
  return isExact && more.length === 0 ? { id, secret } : null;
}

function formDecoded(text: string): string | null {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return null;
  }
}

function wishOf(form: Form): TokenOptions {
  const audience = [...(form.get('audience') ?? []), ...(form.get('resource') ?? [])];
  if (audience.length > AUDIENCES_MAX) throw new OAuthError('invalid_target', 'Too many audiences.');
  if (!(form.get('resource') ?? []).every(isResource))
    throw new OAuthError('invalid_target', 'A resource is an absolute URI without a fragment.');
  const scope = only(form, 'scope');
  const permissions = scope?.split(' ') ?? [];
  const isScope = (one: string): boolean => isPermission(one) || isPermissionPattern(one);
  if (permissions.length > PERMISSIONS_MAX || !permissions.every(isScope))
    throw new OAuthError('invalid_scope', 'A scope is a permission; several are separated by one space.');
  const ttl = only(form, 'ttl');
  if (ttl !== null && !SECONDS.test(ttl)) throw new OAuthError('invalid_request', 'ttl is a whole number of seconds.');
  return {
    ...(audience.length > 0 && { audience }),
    ...(scope !== null && { permissions }),
    ...(ttl !== null && { ttlSeconds: Number(ttl) }),
  };
}

/** One hour has four digits. The engine refuses a lifetime beyond the policy of the key. */
const SECONDS = /^[1-9][0-9]{0,5}$/;

/** RFC 8707 section 2. */
function isResource(text: string): boolean {
  return URL.canParse(text) && !text.includes('#');
}

function only(form: Form, name: string): string | null {
  return form.get(name)?.[0] ?? null;
}
