/**
 * What a caller presented, with what tells it from the other credentials of its key. A key can go on while one of its
 * credentials has ended: a secret that was replaced, a token that was revoked alone. So whoever changes something is
 * held against all of this again when the change is committed.
 */
import type { Instant } from '../foundation/clock.ts';
import type { SigningAlgorithm, TokenKind } from './claims.ts';

/** The key string itself, or a token made from it. */
export type PresentedCredential =
  | {
      readonly via: 'api_key';
      /** When the secret of the version that was proved was made: the one that replaced it was made later. */
      readonly secretMadeAt: Instant;
    }
  | { readonly via: 'token'; readonly token: PresentedToken };

/** A token that was accepted: everything that can end it before its key does. */
export interface PresentedToken {
  readonly tokenId: string;
  readonly kind: TokenKind;
  readonly algorithm: SigningAlgorithm;
  /** Of the key that signed it: a signing key of the service, or a secret of the API key. */
  readonly kid: string;
  readonly issuedAt: Instant;
  /** Those of its audiences for which it was accepted. */
  readonly acceptedFor: readonly string[];
}
