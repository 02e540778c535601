/**
 * What went wrong, told: one line for a person, a problem for a script, an exit code. Never holds what was sent, and of an
 * error that nobody expected only its kind, since its message may hold anything.
 */
import { CODES, type Code, PantheonError, type Problem, toProblem } from 'pantheon-auth';
import { EXIT, type ExitCode, exitCodeOf, exitCodeOfStatus } from './exit-codes.ts';
import { printable } from './output.ts';

/** A "no" of the service, with the body that it sent. */
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
  /** For `--json`: an RFC 9457 problem, or the OAuth error as it came. */
  readonly problem: object;
}

export function toFailure(error: unknown): Failure {
  if (error instanceof ApiRefusal) return ofRefusal(error);
  if (error instanceof PantheonError) {
    const { code, detail, field } = error;
    return ofProblem(toProblem(code, { detail, field }), exitCodeOf(code));
  }
  return ofProblem(toProblem('internal_error', { detail: `It is a ${kindOf(error)}.` }), EXIT.internal);
}

function ofRefusal({ status, body }: ApiRefusal): Failure {
  const exitCode = exitCodeOfStatus(status);
  if (typeof body['code'] === 'string') return ofProblem({ ...body, code: body['code'] }, exitCode);
  // The OAuth endpoint has its own form of errors (RFC 6749 section 5.2).
  const { error, error_description: what } = body;
  const told = { code: text(error) ?? 'internal_error', detail: text(what) ?? `The service answered ${status}.` };
  return { ...ofProblem(told, exitCode), problem: body };
}

type Told = { readonly code: string } & Partial<Readonly<Record<keyof Problem, unknown>>>;

function ofProblem(problem: Told, exitCode: ExitCode): Failure {
  const entry = Object.hasOwn(CODES, problem.code) ? CODES[problem.code as Code] : null;
  const title = text(problem.title) ?? entry?.title ?? 'It was refused.';
  const detail = text(problem.detail);
  // A problem without a detail of its own repeats the advice there.
  const what = detail === null || detail === entry?.advice ? title : detail;
  const field = text(problem.field);
  const where = field === null ? '' : ` (${field})`;
  // A mistake in the command line itself is no field, and brings its own advice, as does what says what to do.
  const isAdvised = REMEDY.test(detail ?? '') || (problem.code === 'invalid_request' && field === null);
  const isOwn = entry === null || isAdvised;
  const advice = isOwn ? '' : ` — ${entry.advice}`;
  const line = `pantheon-auth: ${problem.code}: ${what.replace(/\.$/, '')}${where}${advice}`;
  return { exitCode, line: printable(line), problem };
}

/** A sentence or a command that says what to do, at the end of a detail. */
const REMEDY = /[.:] (?:Check|Make|Run|Restore|pantheon-auth)\b/;

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

/** Its class and, of an error of the system, its code. */
function kindOf(error: unknown): string {
  const { message, code, constructor: kind } = Object(error) as Partial<Record<'message' | 'code', unknown>>;
  if (typeof message !== 'string') return 'value that is no error';
  return typeof code === 'string' && /^[A-Z0-9_]{1,40}$/.test(code) ? `${kind.name} ${code}` : kind.name;
}
