/**
 * The presented credential, as distinguished from other credentials of the same key. A credential can end while its key
 * stays valid: a replaced secret, an individually revoked token. So these data are checked again when a change is
 * committed.
 */
import type { Instant } from '../foundation/clock.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import type { SigningAlgorithm, TokenKind } from './claims.ts';

/** The key string, or a token made from the key. */
export type PresentedCredential =
  | {
      readonly via: 'api_key';
      /** When the secret of the matched version was created. A replacement has a later time. */
      readonly secretMadeAt: Instant;
    }
  | { readonly via: 'token'; readonly token: PresentedToken };

/** An accepted token, with everything that can end it before its key. */
export interface PresentedToken {
  readonly tokenId: string;
  readonly kind: TokenKind;
  readonly algorithm: SigningAlgorithm;
  /** The `kid` of the key that signed it: a signing key of the service, or a secret of the API key. */
  readonly kid: string;
  readonly issuedAt: Instant;
  readonly expiresAt: Instant;
  readonly subject: string;
  readonly customClaims: Readonly<Partial<JsonObject>>;
  /** Its audiences that were accepted. */
  readonly acceptedFor: readonly string[];
}
