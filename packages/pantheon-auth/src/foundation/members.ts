/**
 * Checks the member names of an object that a program passes. TypeScript checks them at compile time; a JavaScript program
 * that misspells an option would otherwise be served as if it had omitted the option.
 */
import { PantheonError } from './errors.ts';
import { showableName } from './field-path.ts';

/** The allowed members, and whether each may be present with the value `undefined`. */
export type Members<Name extends string> = Readonly<Record<Name, 'may_be_undefined' | 'has_a_value'>>;

/**
 * Refuses unknown members, and `undefined` where omitting the member would allow more than was meant.
 *
 * @param whole The name of the object in errors.
 * @throws PantheonError `invalid_request`, naming the member.
 */
export function assertMembers<Name extends string>(value: unknown, members: Members<Name>, whole: string): void {
  if (typeof value !== 'object' || value === null) throw invalid(whole, 'An object.');
  for (const name in value) {
    if (!Object.hasOwn(members, name)) throw invalid(showableName(name) ?? whole, 'There is no such member.');
    if (members[name as Name] === 'has_a_value' && value[name as keyof typeof value] === undefined)
      throw invalid(name, 'It is undefined. Omit it or give a value.');
  }
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
