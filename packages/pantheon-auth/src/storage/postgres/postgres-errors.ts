/**
 * Maps errors of PostgreSQL and of the connection to `PantheonError`. The server's `detail` and `where` contain row
 * values, so only its message, which names tables and columns, and its SQLSTATE are used.
 */
import { codeOf, isErrorLike, messageOf, PantheonError } from '../../foundation/errors.ts';

/** `Retry-After` when the database does not answer. */
const RETRY_AFTER_SECONDS = 1;

/** SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html. */
const READ_ONLY_TRANSACTION = '25006';
const DISK_FULL = '53100';
/** Text that PostgreSQL cannot store, such as NUL. Stored text is validated before, so this is from a search. */
const UNSTORABLE_TEXT: ReadonlySet<string> = new Set(['22021', '22P05']);
/** A concurrent change or a deadlock: nothing was changed, and the command can be retried. */
const LOST_RACES: ReadonlySet<string> = new Set([
  '23503', // foreign_key_violation
  '23505', // unique_violation
  '40001', // serialization_failure
  '40P01', // deadlock_detected
]);
/**
 * A prepared statement is outdated after a change of the tables, or unknown in a shared session. On a new connection it
 * works.
 */
const STALE_STATEMENTS: ReadonlySet<string> = new Set(['0A000', '26000']);
/** The error of a pooler that refuses a connection: an unknown parameter, user or database. */
const PROTOCOL_VIOLATION = '08P01';
/** Error codes of Node's TLS for an invalid certificate. */
const CERTIFICATE = /CERT|ISSUER|SELF_SIGNED|LEAF_SIGNATURE|CRL|HOSTNAME_MISMATCH/;
/** Error codes for a server without TLS, or an invalid client certificate. */
const TLS = /^(?:EPROTO|ERR_SSL|ERR_OSSL|ERR_TLS|ERR_CRYPTO)/;
/** SQLSTATE classes in which the server cannot answer now: connection, resources, operator, system. */
const AWAY_CLASSES: ReadonlySet<string> = new Set(['08', '53', '57', '58', '55', 'XX']);
/** The server ended a session that was idle in a transaction. */
const IDLE_IN_TRANSACTION = '25P03';
const INSUFFICIENT_PRIVILEGE = '42501';
/** SQLSTATE classes that an operator has to correct: wrong password, unknown database, missing privilege. */
const MISCONFIGURED: ReadonlySet<string> = new Set(['28', '3D', '42']);

/** The SQLSTATE of the server; null: another error. */
export function sqlStateOf(error: unknown): string | null {
  const code = codeOf(error);
  if (code === null || error instanceof PantheonError || !/^[0-9A-Z]{5}$/.test(code)) return null;
  return 'severity' in (error as object) ? code : null;
}

/** Maps an error of the driver. An error that is no condition of the database is returned unchanged, as a bug. */
export function toPantheonError(error: unknown): unknown {
  if (error instanceof PantheonError || !isErrorLike(error)) return error;
  const state = sqlStateOf(error);
  if (state === null) return isOfTheWay(error) ? unavailable(error.message) : error;
  const detail = `${error.message} (${state})`;
  if (state === READ_ONLY_TRANSACTION) return new PantheonError('store_read_only', { detail });
  if (state === DISK_FULL) return new PantheonError('store_full', { detail });
  if (UNSTORABLE_TEXT.has(state))
    return new PantheonError('invalid_request', { detail: 'The text holds a character that cannot be stored.' });
  if (LOST_RACES.has(state)) return new PantheonError('conflict', { detail });
  if (state === IDLE_IN_TRANSACTION || STALE_STATEMENTS.has(state) || AWAY_CLASSES.has(state.slice(0, 2)))
    return unavailable(detail);
  return error;
}

/**
 * The same for a failed COMMIT. With a SQLSTATE about the transaction it was certainly rolled back. After any other
 * error the commit may have happened.
 */
export function toCommitError(error: unknown): unknown {
  const known = toPantheonError(error);
  if (known instanceof PantheonError && known.code === 'conflict') return known;
  return new PantheonError('outcome_unknown', { detail: messageOf(error) });
}

/**
 * The same at the start: an error that an operator has to correct becomes `store_unusable` with advice; any other means
 * that the database does not answer now.
 */
export function toOpenError(error: unknown): unknown {
  if (error instanceof PantheonError) return error;
  const remedy = remedyOf(error);
  if (remedy === null) return toPantheonError(error);
  const state = sqlStateOf(error);
  const what = state === null ? nameOfFailure(error) : `${messageOf(error)} (${state})`;
  return new PantheonError('store_unusable', { field: 'database.url', detail: `${what}. ${remedy}` });
}

/** The same for the first statements: the role may lack a privilege. Any other SQL error is a bug. */
export function toFirstError(error: unknown): unknown {
  return sqlStateOf(error) === INSUFFICIENT_PRIVILEGE ? toOpenError(error) : error;
}

/** After the start the same errors are outages, because the settings were right at the start. */
export function toOutage(error: unknown): unknown {
  const known = toOpenError(error);
  if (!(known instanceof PantheonError) || known.code !== 'store_unusable') return known;
  return unavailable(known.detail ?? 'The database cannot be used.');
}

/** The advice for an error that does not pass by waiting; null: it may pass. */
function remedyOf(error: unknown): string | null {
  const state = sqlStateOf(error);
  // Also the error of a pooler that does not know the user or the database.
  if (state === PROTOCOL_VIOLATION) return 'Check the user, the password, the database and what lies between.';
  if (state === INSUFFICIENT_PRIVILEGE) return 'Check what the role may do there.';
  if (state !== null)
    return MISCONFIGURED.has(state.slice(0, 2)) ? "Check the user, the password and the database's name." : null;
  const code = codeOf(error) ?? '';
  const message = messageOf(error);
  if (code === 'ENOTFOUND') return "Check the host's name.";
  if (CERTIFICATE.test(code) || /self[- ]signed|certificate/i.test(message))
    return "Check that sslrootcert is the server's authority, that the host's name is in the certificate, and its dates.";
  if (/does not support SSL/i.test(message)) return 'Check ssl in postgresql.conf, or write sslmode=disable.';
  if (TLS.test(code)) return 'Check the port, sslmode and the files of the certificates.';
  if (/SASL|password must be/i.test(message)) return 'Check the password: the server asks for one.';
  return null;
}

/** The name of an error, without files and addresses, which are in the setting. */
function nameOfFailure(error: unknown): string {
  const code = codeOf(error);
  return code === null ? messageOf(error).replace(/\.$/, '') : `The connection failed with ${code}`;
}

/** Whether the connection must not be used again after this error, because its state is unknown. */
export function breaksConnection(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === null || STALE_STATEMENTS.has(state) || state === IDLE_IN_TRANSACTION || state.startsWith('57P');
}

export function unavailable(detail: string): PantheonError {
  return new PantheonError('store_unavailable', { detail, retryAfterSeconds: RETRY_AFTER_SECONDS });
}

/**
 * Whether the connection failed. Errors of sockets and name resolution have a system code; the driver's own errors have
 * none.
 */
function isOfTheWay(error: Error): boolean {
  if ('code' in error && typeof error.code === 'string' && /^E[A-Z_]+$/.test(error.code)) return true;
  if ('errors' in error && Array.isArray(error.errors)) return error.errors.every(isOfTheWay);
  return /connection|timeout|terminat|client (?:was|has|is)|self[- ]signed|certificate|SSL/i.test(error.message);
}
