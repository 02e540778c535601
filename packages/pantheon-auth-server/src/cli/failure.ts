/**
 * Describes an error: one line for a person, a problem document for a script, an exit code. Never contains input. Of an
 * unexpected error only its class is shown, because its message may contain secrets.
 */
import { CODES, type Code, PantheonError, type Problem, toProblem } from 'pantheon-auth';
import { EXIT, type ExitCode, exitCodeOf, exitCodeOfStatus } from './exit-codes.ts';
import { printable } from './output.ts';

/** An error answer of the service, with its body. */
export class ApiRefusal extends Error {
  override readonly name = 'ApiRefusal';
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;

  constructor(status: number, body: Readonly<Record<string, unknown>>) {
    super(`The service answered with status ${status}.`);
    this.status = status;
    this.body = body;
  }
}

export interface Failure {
  readonly exitCode: ExitCode;
  readonly line: string;
  /** For `--json`: an RFC 9457 problem, or the OAuth error as received. */
  readonly problem: object;
}

export function toFailure(error: unknown): Failure {
  if (error instanceof ApiRefusal) return ofRefusal(error);
  if (error instanceof PantheonError) {
    const { code, detail, field } = error;
    return ofProblem(toProblem(code, { detail, field }), exitCodeOf(code));
  }
  return ofProblem(toProblem('internal_error', { detail: `Unexpected error: ${kindOf(error)}.` }), EXIT.internal);
}

function ofRefusal({ status, body }: ApiRefusal): Failure {
  const exitCode = exitCodeOfStatus(status);
  if (typeof body['code'] === 'string') return ofProblem({ ...body, code: body['code'] }, exitCode);
  // Errors of the OAuth endpoint have the form of RFC 6749 section 5.2.
  const { error, error_description: what } = body;
  const told = { code: text(error) ?? 'internal_error', detail: text(what) ?? `The service answered ${status}.` };
  return { ...ofProblem(told, exitCode), problem: body };
}

type Told = { readonly code: string } & Partial<Readonly<Record<keyof Problem, unknown>>>;

function ofProblem(problem: Told, exitCode: ExitCode): Failure {
  const entry = Object.hasOwn(CODES, problem.code) ? CODES[problem.code as Code] : null;
  const title = text(problem.title) ?? entry?.title ?? 'It was refused.';
  const detail = text(problem.detail);
  // A problem without its own detail has the advice of its code as `detail`.
  const what = detail === null || detail === entry?.advice ? title : detail;
  const field = text(problem.field);
  const where = field === null ? '' : ` (${field})`;
  // No advice is added to an error of the command line itself, or to a detail that already contains advice.
  const isAdvised = REMEDY.test(detail ?? '') || (problem.code === 'invalid_request' && field === null);
  const isOwn = entry === null || isAdvised;
  const advice = isOwn ? '' : ` — ${entry.advice}`;
  const line = `pantheon-auth: ${problem.code}: ${what.replace(/\.$/, '')}${where}${advice}`;
  return { exitCode, line: printable(line), problem };
}

/** Advice at the end of a detail: a sentence or a command. */
const REMEDY = /[.:] (?:Check|Make|Run|Restore|pantheon-auth)\b/;

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

/** The class of the error and, for a system error, its code. */
function kindOf(error: unknown): string {
  const { message, code, constructor: kind } = Object(error) as Partial<Record<'message' | 'code', unknown>>;
  if (typeof message !== 'string') return 'a value that is not an Error';
  return typeof code === 'string' && /^[A-Z0-9_]{1,40}$/.test(code) ? `${kind.name} ${code}` : kind.name;
}
