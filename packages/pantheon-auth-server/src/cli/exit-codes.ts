/** The exit codes of commands. Scripts depend on these numbers. */
import { CODES, type Code } from 'pantheon-auth';

export const EXIT = {
  /** Success, or the verification accepted. */
  ok: 0,
  /** Denied, or refused: not found, revoked, conflict. */
  refused: 1,
  /** The command or a value in it is not valid. */
  usage: 2,
  /** No result now: no connection, 429, 503, or a database that cannot be opened. Try again. */
  unavailable: 3,
  /** The caller's own credential is missing or not valid, or lacks a permission. */
  notAllowed: 4,
  /** An internal error (EX_SOFTWARE of sysexits.h). */
  internal: 70,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** For the help of every command. */
export const EXIT_CODES_HELP = `
Exit codes:
  0   success, or the credential was accepted
  1   denied or refused: for example not found, or a conflict
  2   the command or an option is not valid
  3   no result now (no connection, 429, 503, the database cannot be opened): try again
  4   not authenticated, or not allowed
  70  an internal error`;

/** The exit code of an HTTP status that is not a success. */
export function exitCodeOfStatus(status: number): ExitCode {
  if (status === 401 || status === 403) return EXIT.notAllowed;
  if (status === 404 || status === 409 || status === 412) return EXIT.refused;
  if (status === 429 || status === 502 || status === 503 || status === 504) return EXIT.unavailable;
  return status >= 500 ? EXIT.internal : EXIT.usage;
}

/**
 * The exit code of an error thrown in this process. Of the startup codes, which have no status, `invalid_setting` is a
 * usage error and the others mean that the database is unavailable.
 */
export function exitCodeOf(code: Code): ExitCode {
  const { status } = CODES[code];
  if (status !== null) return exitCodeOfStatus(status);
  return code === 'invalid_setting' ? EXIT.usage : EXIT.unavailable;
}
