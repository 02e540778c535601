/** The port through which signing keys and token revocations are read. They are written by `Ledger.commit` alone. */
import type { Row } from '../events/ledger.ts';

export interface SigningKeyRows {
  /** All that may still verify: few, by design. */
  all(): Promise<readonly Row[]>;
}

export interface TokenRevocationRows {
  /** Revocations of tokens that have not expired at `now`, at most `limit`, in order of (expires_at, jti), after a place. */
  unexpired(
    now: number,
    after: { readonly expiresAt: number; readonly jti: string } | null,
    limit: number,
  ): Promise<readonly Row[]>;
  find(jti: string): Promise<Row | null>;
}
