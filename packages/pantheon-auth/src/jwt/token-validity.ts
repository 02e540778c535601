/**
 * Whether an accepted token is still valid, and the preconditions for a change made with it. Parsing and signatures are
 * in `token-verifier.ts`.
 */

import type { PresentedToken } from '../domain/credential.ts';
import type { KeyVersion } from '../domain/key.ts';
import { audiencesOf, endOfStatement, endOfToken } from '../domain/token-life.ts';
import type { DecisiveRecord, Denial } from '../domain/verification.ts';
import type { Precondition } from '../events/ledger.ts';
import type { CachedKey } from '../verification/verification-cache.ts';
import type { TokenRevocations } from './revocation.ts';
import type { SigningKeyring } from './signing-keyring.ts';

export class TokenValidity {
  readonly #keyring: SigningKeyring;
  readonly #revocations: TokenRevocations;
  readonly #audience: readonly string[];

  constructor(deps: {
    readonly keyring: SigningKeyring;
    readonly revocations: TokenRevocations;
    /** Audiences for keys whose policy names none. */
    readonly audience: readonly string[];
  }) {
    this.#keyring = deps.keyring;
    this.#revocations = deps.revocations;
    this.#audience = deps.audience;
  }

  /** The audiences that tokens of this key may have. */
  audiencesOf({ jwt }: Pick<DecisiveRecord, 'jwt'>): readonly string[] {
    return audiencesOf(jwt, this.#audience);
  }

  /** Why this token is invalid although its key is valid; null: it is valid. The callers check the expiry. */
  endOf(
    token: Pick<PresentedToken, 'tokenId' | 'kind' | 'algorithm' | 'issuedAt'>,
    record: DecisiveRecord,
    version: KeyVersion,
  ): Denial | null {
    if (this.#revocations.isRevoked(record.id, token.tokenId)) return { code: 'revoked' };
    return endOfToken(token, record, version);
  }

  /** The same for a token that was accepted earlier; also checks its signing key, its audiences and what it says of its key again. */
  endOfAccepted(token: PresentedToken, facts: CachedKey, version: KeyVersion): Denial | null {
    const { record, secrets } = facts;
    const isSignerGood =
      token.kind === 'access'
        ? this.#keyring.verifier(token.kid) !== null
        : secrets.some((one) => one.version === version.version && one.signing?.kid === token.kid);
    if (!isSignerGood) return { code: 'unknown' };
    const allowed = this.audiencesOf(record);
    if (!token.acceptedFor.some((one) => allowed.includes(one))) return { code: 'wrong_audience' };
    return this.endOf(token, record, version) ?? endOfStatement(token, record);
  }

  /** The preconditions besides the row of the key, which covers its versions and HS256 secrets. */
  preconditionsOf(token: PresentedToken, keyId: string): readonly Precondition[] {
    const unrevoked = this.#revocations.absenceOf(keyId, token.tokenId);
    if (token.kind === 'key_signed') return [unrevoked];
    const signer = this.#keyring.recordOf(token.kid);
    // The signing key was retired since the token was accepted. Revision 0 never exists, so the commit fails.
    const revision = signer === null || signer.retiredAt !== null ? 0 : signer.revision;
    return [unrevoked, { kind: 'row', table: 'signing_keys', where: { kid: token.kid }, revision }];
  }
}
