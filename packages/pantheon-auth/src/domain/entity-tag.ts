/**
 * Entity tags (RFC 9110 section 8.8.3) of what its owners change, and the condition that a caller puts on a change:
 * `If-Match` (section 13.1.1). A tag names a revision of the settings and the state, never of the usage that is shown
 * beside them. So it is made for `If-Match` alone: an answer is never left out because a tag is the same.
 */
import { PantheonError } from '../foundation/errors.ts';

/** Revisions are counted per record, so a tag says nothing about any other one. */
export function entityTag(kind: 'key' | 'tenant', revision: number): string {
  return `"${kind === 'key' ? 'k' : 't'}${revision}"`;
}

/** Which revisions a change is meant for. `*`: whichever there is. */
export type IfMatch = '*' | readonly string[];

/** One entity tag and what separates it from the next. The characters are those of RFC 9110, obs-text included. */
const LISTED_TAG = /[ \t,]*((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)/y;
const NOTHING_MORE = /^[ \t,]*$/;

/**
 * Reads the value of an `If-Match` header. Null: there was none, so there is no condition.
 *
 * @throws PantheonError `invalid_request` for what is not a list of entity tags: a condition that cannot be read is never
 * taken for one that holds.
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
 * Compared strongly: a weak tag matches nothing.
 *
 * @throws PantheonError `precondition_failed` when the record is another revision than the caller has seen.
 */
export function assertMatches(condition: IfMatch | null, tag: string): void {
  if (condition === null || condition === '*' || condition.includes(tag)) return;
  throw new PantheonError('precondition_failed', { field: 'If-Match' });
}
