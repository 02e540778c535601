/**
 * Every code that a caller can receive, with its meaning, its HTTP status and the advice for the caller. The docs, the
 * OpenAPI file and the clients are made from this table. A code is never renamed. The conditions that lead to a code
 * are in the modules that use it.
 */

/**
 * A denial is the result of a verification. An error says that a request cannot be executed, or not now. A startup code
 * is a reason for which the process does not start.
 */
export interface CodeEntry {
  readonly kind: 'denial' | 'error' | 'startup';
  /**
   * The HTTP status of an answer with this code, when the code is about the caller's own credential or request. Null
   * for startup codes.
   */
  readonly status: number | null;
  /** One sentence for the caller. */
  readonly title: string;
  /** What to do next. */
  readonly advice: string;
}

/** Code of a denial. */
export type DenialCode =
  | 'malformed'
  | 'unknown'
  | 'revoked'
  | 'expired'
  | 'version_retired'
  | 'wrong_audience'
  | 'suspended'
  | 'not_yet_active'
  | 'environment_mismatch'
  | 'ip_not_allowed'
  | 'insufficient_permissions'
  | 'rate_limited'
  | 'quota_exceeded';

/** Code of a request that cannot be executed, or not now. */
export type RequestErrorCode =
  | 'invalid_key'
  | 'missing_credential'
  | 'ambiguous_credential'
  | 'credential_in_url'
  | 'credential_in_text'
  | 'invalid_request'
  | 'invalid_json'
  | 'invalid_cursor'
  | 'not_grantable'
  | 'not_allowed'
  | 'not_found'
  | 'method_not_allowed'
  | 'conflict'
  | 'already_exists'
  | 'key_revoked'
  | 'key_suspended'
  | 'key_expired'
  | 'rotation_in_progress'
  | 'version_conflict'
  | 'version_in_use'
  | 'last_administrator'
  | 'already_claimed'
  | 'too_many_keys'
  | 'request_timeout'
  | 'precondition_failed'
  | 'payload_too_large'
  | 'unsupported_media_type'
  | 'expectation_failed'
  | 'idempotency_mismatch'
  | 'headers_too_large'
  | 'internal_error'
  | 'store_unavailable'
  | 'store_read_only'
  | 'store_full'
  | 'store_unusable'
  | 'outcome_unknown'
  | 'key_quarantined'
  | 'tenant_quarantined'
  | 'limiter_unavailable'
  | 'clock_in_doubt'
  | 'overloaded'
  | 'shutting_down'
  | 'signing_secret_unavailable'
  | 'signing_key_unavailable';

/** Code of a reason not to start. */
export type StartupCode =
  | 'invalid_setting'
  | 'master_key_missing'
  | 'master_key_mismatch'
  | 'schema_too_new'
  | 'schema_too_old'
  | 'redis_required'
  | 'database_missing'
  | 'port_in_use';

/** Denials of verifications. They are returned as values, never thrown. */
export const DENIALS: Readonly<Record<DenialCode, CodeEntry>> = {
  malformed: denial(401, 'The credential is not well formed.', 'Check that it was copied completely.'),
  unknown: denial(401, 'The credential is not known.', 'Use a credential that this service issued.'),
  revoked: denial(401, 'The credential was revoked.', 'Ask the owner for a new one.'),
  expired: denial(401, 'The credential has expired.', 'Ask the owner for a new one, or exchange the key again.'),
  version_retired: denial(
    401,
    'This version of the key is no longer accepted.',
    'Use the current version. If the service rotated the key, fetch it with GET /v1/self/next.',
  ),
  wrong_audience: denial(
    401,
    'The token is meant for another audience.',
    'Ask for a token with the audience of this service.',
  ),
  suspended: denial(403, 'The key is suspended.', 'Ask the owner to resume it.'),
  not_yet_active: denial(403, 'The credential is not active yet.', 'Wait until it becomes active.'),
  environment_mismatch: denial(403, 'The key belongs to another environment.', 'Use a key of this environment.'),
  ip_not_allowed: denial(403, 'The key may not be used from this address.', 'Call from an allowed address.'),
  insufficient_permissions: denial(403, 'The key lacks a permission.', 'Ask for a key that has it.'),
  rate_limited: denial(429, 'Too many requests.', 'Wait for the time in Retry-After.'),
  quota_exceeded: denial(429, 'The quota is used up.', 'Wait for the next period, or ask for a larger quota.'),
};

/** Requests that cannot be executed, or not now. They are thrown as `PantheonError`. */
export const ERRORS: Readonly<Record<RequestErrorCode, CodeEntry>> = {
  invalid_key: error(401, 'The credential is not valid.', 'Use a valid API key or token.'),
  missing_credential: error(401, 'A credential is required.', 'Send Authorization: Bearer <key or token>.'),
  ambiguous_credential: error(400, 'More than one credential was sent.', 'Send exactly one.'),
  credential_in_url: error(400, 'A credential was sent in the URL.', 'Send it in a header and replace that key.'),
  credential_in_text: error(
    400,
    'A text field contains a credential.',
    'Remove it from the named field and replace that key.',
  ),
  invalid_request: error(400, 'The request is not valid.', 'Correct the named field.'),
  invalid_json: error(400, 'The body is not valid JSON.', 'Send one JSON object without duplicate members.'),
  invalid_cursor: error(400, 'The cursor is not valid for this list.', 'Start again without a cursor.'),
  not_grantable: error(403, 'The request would grant more than the caller may grant.', 'Ask for less.'),
  not_allowed: error(403, 'The policy of this key does not allow that.', 'Ask an administrator.'),
  not_found: error(404, 'The resource does not exist.', 'Check the id and the tenant.'),
  method_not_allowed: error(405, 'The resource does not support that method.', 'See the Allow header.'),
  conflict: error(
    409,
    'Another request changed the record at the same time.',
    'Read the record again, then repeat the request.',
  ),
  already_exists: error(409, 'The resource exists already.', 'Use the existing one, or choose another.'),
  key_revoked: error(409, 'The key is revoked, which is final.', 'Create a new key.'),
  key_suspended: error(409, 'A suspended key gets no new secret.', 'Resume the key first.'),
  key_expired: error(409, 'An expired key gets no new secret.', 'Set a later expiry first, or create a new key.'),
  rotation_in_progress: error(
    409,
    'An older version is still accepted.',
    'Wait until its overlap ends, or send expectedVersion.',
  ),
  version_conflict: error(409, 'The request does not use the current version of the key.', 'Read the key again.'),
  version_in_use: error(
    409,
    'The version to roll back has been used.',
    'Repeat with force to end it anyway: whoever uses it is then denied.',
  ),
  last_administrator: error(409, 'The key is the last administrator.', 'Repeat with force to do it anyway.'),
  already_claimed: error(
    409,
    'The secret that this request created cannot be replaced: it was used, or its version is not the current one.',
    'Rotate the key instead.',
  ),
  request_timeout: error(408, 'The request did not arrive completely in time.', 'Send it again.'),
  precondition_failed: error(
    412,
    'The record has changed since the ETag in If-Match.',
    'Read the record again, then decide again.',
  ),
  too_many_keys: error(
    409,
    'The tenant has reached its maximum number of keys.',
    'Revoke keys that are no longer needed.',
  ),
  payload_too_large: error(413, 'The body is too large.', 'Send a smaller body.'),
  unsupported_media_type: error(415, 'That content type is not accepted.', 'Send application/json.'),
  expectation_failed: error(417, 'The expectation in the Expect header cannot be met.', 'Leave out the Expect header.'),
  idempotency_mismatch: error(422, 'This Idempotency-Key was used with another body.', 'Use a new Idempotency-Key.'),
  headers_too_large: error(431, 'The headers are too large.', 'Send shorter headers.'),
  internal_error: error(500, 'An internal error occurred.', 'Tell the operator the request id.'),
  store_unavailable: error(503, 'The database does not answer in time.', 'Keep the key and try again.'),
  store_read_only: error(503, 'The database cannot be written.', 'Check its permissions and disk.'),
  store_full: error(503, 'The disk of the database is full.', 'Free disk space, then try again.'),
  store_unusable: error(
    503,
    'The database cannot be used.',
    'Trying again does not help: check its address, who may use it and its disk, or restore a backup.',
  ),
  outcome_unknown: error(
    503,
    'It is not known whether the change was made.',
    'Read the record before you repeat the request.',
  ),
  key_quarantined: error(503, 'The record of this key cannot be read.', 'Tell the operator the key id.'),
  tenant_quarantined: error(503, 'The record of this tenant cannot be read.', 'Tell the operator the tenant.'),
  limiter_unavailable: error(503, 'Rate limits and quotas cannot be checked now.', 'Keep the key and try again.'),
  clock_in_doubt: error(
    503,
    'The clock of the server may be wrong.',
    'Keep the key and try again. The operator has to correct the clock.',
  ),
  overloaded: error(503, 'The server has too many requests to answer.', 'Try again shortly.'),
  shutting_down: error(503, 'The server is stopping.', 'Try another node.'),
  signing_secret_unavailable: error(
    409,
    'The signing secret of this key is not available.',
    'Pass the key itself, or rotate it.',
  ),
  signing_key_unavailable: error(503, 'No signing key may sign now.', 'Keep the key and try again.'),
};

/** Reasons not to start. Each stops the process with one line. */
export const STARTUP: Readonly<Record<StartupCode, CodeEntry>> = {
  invalid_setting: startup('A setting is not valid.', 'Correct the named setting.'),
  master_key_missing: startup('There is no master key.', 'Give the master key, or the file that holds it.'),
  master_key_mismatch: startup(
    'The master key does not open this database.',
    'Give the master key that the database was created with.',
  ),
  schema_too_new: startup('The database was written by a newer version.', 'Run the newer version.'),
  schema_too_old: startup('The tables of the database are too old for this version.', 'Run pantheon-auth migrate.'),
  redis_required: startup(
    'Several nodes on one database need Redis to count limits together. Without Redis two nodes may run only while one replaces the other.',
    'Give every node the same Redis, or configure each node to count alone. In an update, stop the old node first.',
  ),
  database_missing: startup(
    'A master key or root key file exists, but its database does not.',
    'Name the folder of the database, or restore the database. For a new database, move the key files away.',
  ),
  port_in_use: startup('The port is in use.', 'Stop the other process or set another port.'),
};

/** Code of an error. */
export type ErrorCode = RequestErrorCode | StartupCode;
/** Every code there is. */
export type Code = DenialCode | ErrorCode;

/** All codes in one table, for the docs and the OpenAPI file. */
export const CODES: Readonly<Record<Code, CodeEntry>> = { ...DENIALS, ...ERRORS, ...STARTUP };

function denial(status: 401 | 403 | 429, title: string, advice: string): CodeEntry {
  return { kind: 'denial', status, title, advice };
}

function error(status: number, title: string, advice: string): CodeEntry {
  return { kind: 'error', status, title, advice };
}

function startup(title: string, advice: string): CodeEntry {
  return { kind: 'startup', status: null, title, advice };
}
