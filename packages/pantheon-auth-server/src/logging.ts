/**
 * The log: JSON lines for the operator. What a line says of a request is chosen in `request-log.ts`; here are the nets
 * below it, which take out of every line what should never have come into it.
 */
import { type DestinationStream, type Logger, pino, stdSerializers, stdTimeFunctions } from 'pino';
import type { LogLevel } from './config.ts';
import { withoutCredentials } from './exposed-credentials.ts';

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
/** One write for a dozen lines when there are many… */
const BATCH_BYTES = 4_096;
/** …and no line later than this when there are few. */
const BATCH_MS = 100;

/** Writes to the standard error unless told otherwise, so that the standard output is free for people. */
export function createLogger(level: LogLevel, destination: DestinationStream = standardError()): Logger {
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

/** Lines are written beside the work; the end of the process, also an early one, flushes them. */
function standardError(): DestinationStream {
  return pino.destination({ fd: STDERR, sync: false, minLength: BATCH_BYTES, periodicFlush: BATCH_MS });
}
