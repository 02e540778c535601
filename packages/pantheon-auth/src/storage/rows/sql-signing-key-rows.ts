/** Signing keys and revoked tokens, read. */
import type { Kysely } from 'kysely';
import type { SigningKeyRows, TokenRevocationRows } from '../../jwt/signing-key-rows.ts';
import type { AsStored } from '../../schema/as-stored.ts';
import type { SigningKeyRow } from '../../schema/signing-key-row.ts';
import type { TokenRevocationRow } from '../../schema/token-revocation-row.ts';
import { type StoredTables, withDamagedRows } from '../damaged-integers.ts';
import type { Tables } from '../tables.ts';

/** Keys that may still verify: one for each algorithm and its predecessor, and room for a mistake. Newest first. */
const SIGNING_KEYS_MAX = 100;

export class SqlSigningKeyRows implements SigningKeyRows {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async all(): Promise<readonly AsStored<SigningKeyRow>[]> {
    const rows = await withDamagedRows(this.#db)
      .selectFrom('signing_keys')
      .selectAll()
      .where(({ eb, not, or }) =>
        or([
          eb('retired_at', 'is', null),
          not(eb.between('retired_at', Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)),
        ]),
      )
      .orderBy('created_at', 'desc')
      .orderBy('kid')
      .limit(SIGNING_KEYS_MAX)
      .execute();
    return rows.map((row) => ({ ...row }));
  }

  async find(kid: string): Promise<AsStored<SigningKeyRow> | null> {
    const signingKeys = withDamagedRows(this.#db).selectFrom('signing_keys').selectAll();
    const row = await signingKeys.where('kid', '=', kid).executeTakeFirst();
    return row === undefined ? null : { ...row };
  }
}

export class SqlTokenRevocationRows implements TokenRevocationRows {
  readonly #read: Kysely<StoredTables>;
  readonly #scan: Kysely<StoredTables>;
  readonly #protectiveRead: Kysely<StoredTables>;

  constructor(db: {
    readonly read: Kysely<Tables>;
    readonly scan: Kysely<Tables>;
    readonly protectiveRead: Kysely<Tables>;
  }) {
    this.#read = withDamagedRows(db.read);
    this.#protectiveRead = withDamagedRows(db.protectiveRead);
    this.#scan = withDamagedRows(db.scan);
  }

  async unexpired(
    now: number,
    after: { readonly expiresAt: number | bigint; readonly jti: string } | null,
    limit: number,
  ): Promise<readonly AsStored<TokenRevocationRow>[]> {
    // There is mostly no more than the first page, and then nothing to start a thread for.
    const revocations = (after === null ? this.#read : this.#scan).selectFrom('token_revocations').selectAll();
    // One bound of the index and not both, of which SQLite may take the wider one for its search.
    const rest =
      after === null
        ? revocations.where('expires_at', '>', now)
        : revocations.where(({ eb, refTuple, tuple }) =>
            eb(refTuple('expires_at', 'jti'), '>', tuple(after.expiresAt, after.jti)),
          );
    const rows = await rest.orderBy('expires_at').orderBy('jti').limit(limit).execute();
    // Damaged: no token has expired at such a time.
    const beforeAnyTime = revocations.where('expires_at', '<', Number.MIN_SAFE_INTEGER).limit(limit);
    const damaged = after === null ? await beforeAnyTime.execute() : [];
    return [...damaged, ...rows].map((row) => ({ ...row }));
  }

  async find(jti: string): Promise<AsStored<TokenRevocationRow> | null> {
    const revocations = this.#protectiveRead.selectFrom('token_revocations').selectAll();
    const row = await revocations.where('jti', '=', jti).executeTakeFirst();
    return row === undefined ? null : { ...row };
  }
}
