/**
 * Whether a token that was accepted is still good, and what has to hold for that when a change made with it is committed.
 * How a presented token is taken apart and its signature checked is `token-verifier.ts`.
 */

import type { PresentedToken } from '../domain/credential.ts';
import type { KeyVersion } from '../domain/key.ts';
import { audiencesOf, endOfToken } from '../domain/token-life.ts';
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
    /** Used where a key's policy names no audience. */
    readonly audience: readonly string[];
  }) {
    this.#keyring = deps.keyring;
    this.#revocations = deps.revocations;
    this.#audience = deps.audience;
  }

  /** The audiences that a token of this key may have now. */
  audiencesOf({ jwt }: Pick<DecisiveRecord, 'jwt'>): readonly string[] {
    return audiencesOf(jwt, this.#audience);
  }

  /** What ends this token although its key goes on; null: nothing. Its expiry is compared by the callers. */
  endOf(
    token: Pick<PresentedToken, 'tokenId' | 'kind' | 'algorithm' | 'issuedAt'>,
    record: DecisiveRecord,
    version: KeyVersion,
  ): Denial | null {
    if (this.#revocations.isRevoked(record.id, token.tokenId)) return { code: 'revoked' };
    return endOfToken(token, record, version);
  }

  /** The same for a token that was accepted earlier, with what its acceptance rested on besides. */
  endOfAccepted(token: PresentedToken, facts: CachedKey, version: KeyVersion): Denial | null {
    const { record, secrets } = facts;
    const isSignerGood =
      token.kind === 'access'
        ? this.#keyring.verifier(token.kid) !== null
        : secrets.some((one) => one.version === version.version && one.signing?.kid === token.kid);
    if (!isSignerGood) return { code: 'unknown' };
    const allowed = this.audiencesOf(record);
    if (!token.acceptedFor.some((one) => allowed.includes(one))) return { code: 'wrong_audience' };
    return this.endOf(token, record, version);
  }

  /** What must hold besides the key's own row, in which its versions and the secrets of its own tokens are. */
  preconditionsOf(token: PresentedToken, keyId: string): readonly Precondition[] {
    const unrevoked = this.#revocations.absenceOf(keyId, token.tokenId);
    if (token.kind === 'key_signed') return [unrevoked];
    const signer = this.#keyring.recordOf(token.kid);
    // Retired since it was looked at: nothing can stand on it. The ledger finds no such revision.
    const revision = signer === null || signer.retiredAt !== null ? 0 : signer.revision;
    return [unrevoked, { kind: 'row', table: 'signing_keys', where: { kid: token.kid }, revision }];
  }
}
