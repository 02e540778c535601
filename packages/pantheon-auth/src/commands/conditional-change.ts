/** A change that a caller decided on a record as it was shown, and wants only if it is still that. */
import { assertMatches, entityTag, parseIfMatch } from '../domain/entity-tag.ts';

/** For a change of what is there. */
export interface ConditionalOptions {
  /**
   * The `etag` of the record that the change was decided on: it is refused with `precondition_failed` if the record has
   * changed since. Several with commas; `*` for whatever there is. Default: no condition.
   */
  readonly ifMatch?: string;
}

/**
 * The record is looked at as it was loaded, and the commit requires that revision: of two who decided on the same one, one
 * is refused.
 *
 * @throws PantheonError `precondition_failed`, `invalid_request`.
 */
export function assertIsMeant(
  { ifMatch }: ConditionalOptions,
  kind: Parameters<typeof entityTag>[0],
  { revision }: { readonly revision: number },
): void {
  assertMatches(parseIfMatch(ifMatch), entityTag(kind, revision));
}
