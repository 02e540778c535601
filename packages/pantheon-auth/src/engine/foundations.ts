/**
 * Opens the basic parts of an engine in the order of their dependencies: the clock, the database and its recorded time,
 * the master key, the limiter.
 */
import { DEFAULT_KEY_PREFIX, parseKeyPrefix } from '../api-keys/key-generator.ts';
import { type ClockReading, startClock } from '../events/stored-time.ts';
import { NonDecreasingClock, systemClock } from '../foundation/clock.ts';
import { cacheBounds } from '../foundation/memory-size.ts';
import type { KeyEncryption } from '../kms/key-encryption.ts';
import { openLocalKms } from '../kms/open-local-kms.ts';
import type { RateLimiter } from '../rate-limit/rate-limiter.ts';
import type { Database } from '../storage/database.ts';
import { clockLog, tellAhead } from './clock-log.ts';
import { databaseFileOf, openDatabase } from './open-database.ts';
import { openLimiter } from './open-limiter.ts';
import type { OpenedParts } from './opened-parts.ts';
import { assertOptions, type Logger, type PantheonAuthOptions, parseIssuer } from './options.ts';

export interface Foundations {
  readonly database: Database;
  readonly kms: KeyEncryption;
  readonly limiter: RateLimiter;
  readonly clock: NonDecreasingClock;
  /** The readings of the clocks at the start. */
  readonly reading: ClockReading;
  readonly keyPrefix: string;
  readonly issuer: string;
  readonly audience: readonly string[];
  readonly logger: Logger;
  readonly options: PantheonAuthOptions;
}

/** `mayBeBehind`: opens also with a clock behind the recorded time, which is about to be corrected. */
export async function openFoundations(
  options: PantheonAuthOptions,
  opened: OpenedParts,
  mayBeBehind: boolean,
): Promise<Foundations> {
  assertOptions(options);
  const logger = options.logger ?? SILENT;
  const clock = new NonDecreasingClock(options.clock ?? systemClock, clockLog(logger));
  const keyPrefix = parseKeyPrefix(options.keyPrefix ?? DEFAULT_KEY_PREFIX);
  const issuer = parseIssuer(options.issuer);
  const audience = options.audience?.length ? options.audience : [issuer];

  const database = await openDatabase(options, clock, logger);
  opened.add(() => database.close());
  const { time, log } = database;
  const start = { clock, time, head: () => log.head(), onAhead: tellAhead(logger) };
  const reading = await startClock(start, mayBeBehind);
  const isNew = (await log.head()).seq === 0;
  const dataDir = options.dataDir ?? null;
  const databaseFile = options.dataDir === undefined ? null : databaseFileOf(options);
  const kms = await openLocalKms(database.meta, { ...options, dataDir, databaseFile, isNew, logger });
  const { countersBytesMax } = cacheBounds(options.cacheBytesMax);
  const limiter = await openLimiter(database, options.limits, { clock, logger, countersBytesMax });
  opened.add(() => limiter.close());
  return { database, kms, limiter, clock, reading, keyPrefix, issuer, audience, logger, options };
}

const SILENT: Logger = { warn: () => {}, error: () => {} };
