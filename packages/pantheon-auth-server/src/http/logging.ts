/**
 * The log: JSON lines for the operator. What a line says of a request is chosen in `request-log.ts`; here are the nets
 * below it, which take out of every line what should never have come into it.
 */
import { type DestinationStream, type Logger, pino, stdSerializers, stdTimeFunctions } from 'pino';
import type { LogLevel } from '../settings/config.ts';
import { withoutCredentials } from './exposed-credentials.ts';
import { LogDestination } from './log-destination.ts';

export type { Logger } from 'pino';

/** Members that hold a secret wherever they turn up, at the first two levels of a line. */
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

/** Writes to the standard error unless told otherwise, so that the standard output is free for people. */
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
