/** The log of a command that opens the database itself: only warnings and errors are printed. */
import { createLogger, type Logger } from '../http/logging.ts';
import { parseBody } from './remote-transport.ts';

export function createCommandLog(onWarning: (warning: string) => void): Logger {
  return createLogger('error', { write: (line) => onWarning(messageOf(line)) });
}

function messageOf(line: string): string {
  const entry = parseBody(line);
  const message = typeof entry === 'object' && entry !== null && 'msg' in entry ? entry.msg : null;
  return typeof message === 'string' ? message : 'something was logged that cannot be read';
}
