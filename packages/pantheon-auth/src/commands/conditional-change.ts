/** The `If-Match` condition of a change: it is made only if the record has not changed since the caller read it. */
import { assertMatches, entityTag, parseIfMatch } from '../domain/entity-tag.ts';

/** Options of a change of an existing record. */
export interface ConditionalOptions {
  /**
   * The `etag` of the record as it was read. If the record has changed since, the change is refused with
   * `precondition_failed`. Several separated by commas; `*` for any. Default: no condition.
   */
  readonly ifMatch?: string;
}

/**
 * Checks the loaded record. The commit requires the same revision, so of two changes based on the same record one is
 * refused.
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
