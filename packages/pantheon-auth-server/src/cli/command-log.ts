/** The log of a command that opens the store itself: of it only what the operator should hear is said. */
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
