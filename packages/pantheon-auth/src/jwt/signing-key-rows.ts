/** The ports for reading signing keys and token revocations. Only `Ledger.commit` writes them. */
import type { AsStored } from '../schema/as-stored.ts';
import type { SigningKeyRow } from '../schema/signing-key-row.ts';
import type { TokenRevocationRow } from '../schema/token-revocation-row.ts';

export interface SigningKeyRows {
  /** All signing keys that are not retired, and those whose time of retirement is damaged. They are few. */
  all(): Promise<readonly AsStored<SigningKeyRow>[]>;
  /** One of them, also a retired one. Null: there never was one with this `kid`. */
  find(kid: string): Promise<AsStored<SigningKeyRow> | null>;
}

export interface TokenRevocationRows {
  /**
   * Revocations of tokens that have not expired at `now`, at most `limit`, ordered by (expires_at, jti), strictly after
   * a position. A damaged expiry counts as not expired. The first page begins with those that are damaged so that they
   * seem to have expired before any time, at most `limit` of them.
   */
  unexpired(
    now: number,
    after: { readonly expiresAt: number | bigint; readonly jti: string } | null,
    limit: number,
  ): Promise<readonly AsStored<TokenRevocationRow>[]>;
  find(jti: string): Promise<AsStored<TokenRevocationRow> | null>;
}
