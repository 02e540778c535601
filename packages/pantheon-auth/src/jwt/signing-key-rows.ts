/** The port through which signing keys and token revocations are read. They are written by `Ledger.commit` alone. */
import type { SigningKeyRow } from '../schema/signing-key-row.ts';
import type { TokenRevocationRow } from '../schema/token-revocation-row.ts';

export interface SigningKeyRows {
  /** All that may still verify: few, by design. */
  all(): Promise<readonly SigningKeyRow[]>;
}

export interface TokenRevocationRows {
  /** Revocations of tokens that have not expired at `now`, at most `limit`, in order of (expires_at, jti), after a place. */
  unexpired(
    now: number,
    after: { readonly expiresAt: number; readonly jti: string } | null,
    limit: number,
  ): Promise<readonly TokenRevocationRow[]>;
  find(jti: string): Promise<TokenRevocationRow | null>;
}
