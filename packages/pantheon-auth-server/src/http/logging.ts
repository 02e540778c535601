/**
 * The log: JSON lines for the operator. `request-log.ts` chooses what a line about a request contains; this file
 * removes secrets from every line, in case one got in.
 */

import { withoutCredentials } from 'pantheon-auth';
import { type DestinationStream, type Logger, pino, stdSerializers, stdTimeFunctions } from 'pino';
import type { LogLevel } from '../settings/config.ts';
import { LogDestination } from './log-destination.ts';

export type { Logger } from 'pino';

/** Names of members that hold secrets. They are removed at the first two levels of a line. */
const SECRET_MEMBERS = [
  'authorization',
  'cookie',
  'key',
  'masterKey',
  'client_secret',
  'subject_token',
  'access_token',
];
const SECRET_PATHS = [...SECRET_MEMBERS.flatMap((name) => [name, `*.${name}`]), '["x-api-key"]', '*["x-api-key"]'];

const STDERR = 2;

/** Writes to standard error by default, so that standard output is left to text for people. */
export function createLogger(level: LogLevel, destination: DestinationStream = new LogDestination(STDERR)): Logger {
  const options = {
    level,
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: SECRET_PATHS, censor: '[secret]' },
    serializers: { err: stdSerializers.errWithCause },
  };
  return pino(options, { write: (line) => destination.write(withoutCredentials(line)) });
}
