/** What an instance is made with: everything in one folder, or any number of nodes on one database. */
import type { Clock } from './foundation/clock.ts';
import type { SharedLimits } from './rate-limit/rate-limiter.ts';
import type { DatabaseSource } from './storage/database.ts';

/** Where warnings and errors go. `pino` fits. Nothing secret is ever passed to it. */
export interface Logger {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What every instance needs. */
interface CommonOptions {
  /** 32 bytes as 64 hex digits, base64 or base64url. Anyone who can read the environment can read it there. */
  readonly masterKey?: string;
  /** `iss` of tokens: an absolute URL. */
  readonly issuer: string;
  /** Audience of tokens whose key's policy names none. Default: the issuer. */
  readonly audience?: readonly string[];
  /** First part of every key string. Default `pan`. */
  readonly brand?: string;
  /** Keys remembered in memory. About 2 kB each. */
  readonly knownKeysMax?: number;
  readonly logger?: Logger;
  /** For tests. */
  readonly clock?: Clock;
}

/** Everything in one folder of this machine: SQLite, and the master key. */
export interface EmbeddedOptions extends CommonOptions {
  /** Folder of the database and, unless it is given otherwise, the master key. Made when it does not exist. */
  readonly dataDir: string;
  /** The database file. Default: `pantheon-auth.db` in `dataDir`. */
  readonly databaseFile?: string;
  /** Default: `master.key` in `dataDir`; made on the first start, when the database is new. */
  readonly masterKeyFile?: string;
  readonly database?: never;
  /** Where limits are counted. Default: in this process. */
  readonly limits?: SharedLimits;
}

/** Any number of nodes on one database. The master key is the same for all of them, and is not made by any. */
export interface ScaledOutOptions extends CommonOptions {
  /** From `pantheon-auth/postgres`. */
  readonly database: DatabaseSource;
  /** One of `masterKey` and this is needed. */
  readonly masterKeyFile?: string;
  readonly dataDir?: never;
  readonly databaseFile?: never;
  /**
   * Where limits are counted: from `pantheon-auth/redis`. Without it this must be the only node, else the second start is
   * refused with `redis_required`. `local`: each node admits the whole of every limit, in writing.
   */
  readonly limits?: SharedLimits | 'local';
}

export type PantheonAuthOptions = EmbeddedOptions | ScaledOutOptions;
