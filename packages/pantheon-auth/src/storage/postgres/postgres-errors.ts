/**
 * What an error of PostgreSQL, or of the way to it, means to a caller. The server's `detail` and `where` repeat values of
 * rows, so only its message, which names tables and columns, and its SQLSTATE go further.
 */
import { codeOf, isErrorLike, messageOf, PantheonError } from '../../foundation/errors.ts';

/** The store that did not answer is worth asking again after this. */
const RETRY_AFTER_SECONDS = 1;

/** SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html. */
const READ_ONLY_TRANSACTION = '25006';
const DISK_FULL = '53100';
/** Text that PostgreSQL cannot hold, such as NUL. What is stored is checked before; this was looked for. */
const UNSTORABLE_TEXT: ReadonlySet<string> = new Set(['22021', '22P05']);
/** A concurrent change was faster, or two waited for each other: nothing was done, and reading again is right. */
const LOST_RACES: ReadonlySet<string> = new Set([
  '23503', // foreign_key_violation
  '23505', // unique_violation
  '40001', // serialization_failure
  '40P01', // deadlock_detected
]);
/**
 * A statement that was prepared before the tables changed, or on a server session that is not ours any more. Prepared
 * anew, on another connection, it works.
 */
const STALE_STATEMENTS: ReadonlySet<string> = new Set(['0A000', '26000']);
/** What a pooler answers to a start that it does not take: an unknown parameter, user or database. */
const PROTOCOL_VIOLATION = '08P01';
/** Of Node's TLS: what it says of a certificate that does not convince it. */
const CERTIFICATE = /CERT|ISSUER|SELF_SIGNED|LEAF_SIGNATURE|CRL|HOSTNAME_MISMATCH/;
/** TLS that the other side does not speak, or a certificate of ours that is none. */
const TLS = /^(?:EPROTO|ERR_SSL|ERR_OSSL|ERR_TLS|ERR_CRYPTO)/;
/** Classes of states in which the server cannot answer now: connection, resources, operator, system. */
const AWAY_CLASSES: ReadonlySet<string> = new Set(['08', '53', '57', '58', '55', 'XX']);
/** The server ended the session of one that stood still inside a transaction. */
const IDLE_IN_TRANSACTION = '25P03';
const INSUFFICIENT_PRIVILEGE = '42501';
/** What can only be put right by whoever runs it: wrong password, no such database, no right to a table. */
const MISCONFIGURED: ReadonlySet<string> = new Set(['28', '3D', '42']);

/** The SQLSTATE that the server answered with; null: the error is of the way to it, or of ours. */
export function sqlStateOf(error: unknown): string | null {
  const code = codeOf(error);
  if (code === null || error instanceof PantheonError || !/^[0-9A-Z]{5}$/.test(code)) return null;
  return 'severity' in (error as object) ? code : null;
}

/** Turns an error of the driver into ours; what is no condition of the store stays what it is: a mistake of ours. */
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
 * The same for a failed COMMIT. An answer with a SQLSTATE that is a verdict on the transaction is certain: it was rolled
 * back. Everything else came while the answer was awaited, or instead of it: the commit may have happened.
 */
export function toCommitError(error: unknown): unknown {
  const known = toPantheonError(error);
  if (known instanceof PantheonError && known.code === 'conflict') return known;
  return new PantheonError('outcome_unknown', { detail: messageOf(error) });
}

/**
 * At the start: the store cannot be used as it was given, or is away for now. What only a person can put right says what
 * that is; a start that is repeated would meet it again.
 */
export function toOpenError(error: unknown): unknown {
  if (error instanceof PantheonError) return error;
  const remedy = remedyOf(error);
  if (remedy === null) return toPantheonError(error);
  const state = sqlStateOf(error);
  const what = state === null ? nameOfFailure(error) : `${messageOf(error)} (${state})`;
  return new PantheonError('store_unusable', { field: 'database.url', detail: `${what}. ${remedy}` });
}

/** The same for the first statements: the role may lack a right to what it found. Another mistake in them is ours. */
export function toFirstError(error: unknown): unknown {
  return sqlStateOf(error) === INSUFFICIENT_PRIVILEGE ? toOpenError(error) : error;
}

/** Later the same is an outage: what was right when the node started may become right again. */
export function toOutage(error: unknown): unknown {
  const known = toOpenError(error);
  if (!(known instanceof PantheonError) || known.code !== 'store_unusable') return known;
  return unavailable(known.detail ?? 'The database cannot be used.');
}

/** What to do about what does not pass by itself; null: it may pass. */
function remedyOf(error: unknown): string | null {
  const state = sqlStateOf(error);
  // Also how a pooler answers that does not know the user or the database.
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

/** Names no file and no address: those are in the setting. */
function nameOfFailure(error: unknown): string {
  const code = codeOf(error);
  return code === null ? messageOf(error).replace(/\.$/, '') : `The connection failed with ${code}`;
}

/** Whether the connection must not be used again after this error: nobody knows what would answer on it. */
export function breaksConnection(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === null || STALE_STATEMENTS.has(state) || state === IDLE_IN_TRANSACTION || state.startsWith('57P');
}

export function unavailable(detail: string): PantheonError {
  return new PantheonError('store_unavailable', { detail, retryAfterSeconds: RETRY_AFTER_SECONDS });
}

/** Sockets and name resolution have a system code; the driver's own words for a lost or late connection have none. */
function isOfTheWay(error: Error): boolean {
  if ('code' in error && typeof error.code === 'string' && /^E[A-Z_]+$/.test(error.code)) return true;
  if ('errors' in error && Array.isArray(error.errors)) return error.errors.every(isOfTheWay);
  return /connection|timeout|terminat|client (?:was|has|is)|self[- ]signed|certificate|SSL/i.test(error.message);
}
