/**
 * ETags (RFC 9110 section 8.8.3) of records, and the condition `If-Match` (section 13.1.1) of changes. An ETag names a
 * revision of settings and state, not of the usage that is shown with them. So it is for `If-Match` only and not for
 * caching of answers.
 */
import { PantheonError } from '../foundation/errors.ts';

/** The ETag of a revision. Revisions are counted per record. */
export function entityTag(kind: 'key' | 'tenant', revision: number): string {
  return `"${kind === 'key' ? 'k' : 't'}${revision}"`;
}

/** The revisions that a change is meant for. `*`: any. */
export type IfMatch = '*' | readonly string[];

/** One ETag of a list. The characters are those of RFC 9110, including obs-text. */
const LISTED_TAG = /[ \t,]*((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)/y;
const NOTHING_MORE = /^[ \t,]*$/;

/**
 * Parses the value of an `If-Match` header. Null: no condition.
 *
 * @throws PantheonError `invalid_request` for what is not a list of ETags, so that a malformed condition is never
 * ignored.
 */
export function parseIfMatch(value: string | undefined): IfMatch | null {
  if (value === undefined) return null;
  const text = value.trim();
  if (text === '*') return '*';
  const tags: string[] = [];
  let at = 0;
  for (;;) {
    LISTED_TAG.lastIndex = at;
    const found = LISTED_TAG.exec(text);
    if (found?.[1] === undefined) break;
    tags.push(found[1]);
    at = LISTED_TAG.lastIndex;
  }
  if (tags.length > 0 && NOTHING_MORE.test(text.slice(at))) return tags;
  const detail = 'Send the ETag of an earlier answer as it was, with its quotation marks; several with commas; or *.';
  throw new PantheonError('invalid_request', { field: 'If-Match', detail });
}

/**
 * Strong comparison: a weak ETag never matches.
 *
 * @throws PantheonError `precondition_failed` when the record has another revision than the caller has read.
 */
export function assertMatches(condition: IfMatch | null, tag: string): void {
  if (condition === null || condition === '*' || condition.includes(tag)) return;
  throw new PantheonError('precondition_failed', { field: 'If-Match' });
}
