/**
 * The members of what a program passes, by name. TypeScript holds its callers to them; a program in JavaScript that
 * misspells one would be answered as if it had not said it.
 */
import { PantheonError } from './errors.ts';

/** Those that may be there, by whether they may hold `undefined`. */
export type Members<Name extends string> = Readonly<Record<Name, 'may_be_undefined' | 'has_a_value'>>;

/**
 * Refuses a member that is unknown, and one that holds `undefined` where leaving it out would ask for less than was meant.
 *
 * @param whole How the value itself is called.
 * @throws PantheonError `invalid_request`, naming the member.
 */
export function assertMembers<Name extends string>(value: unknown, members: Members<Name>, whole: string): void {
  if (typeof value !== 'object' || value === null) throw invalid(whole, 'An object.');
  for (const name in value) {
    if (!Object.hasOwn(members, name)) throw invalid(nameOf(name) ?? whole, 'There is no such member.');
    if (members[name as Name] === 'has_a_value' && value[name as keyof typeof value] === undefined)
      throw invalid(name, 'It is undefined. Leave it out where it is not meant.');
  }
}

/** A name that the caller made up, if it looks like one: shorter than any secret, so that none is repeated by mistake. */
export function nameOf(text: string): string | null {
  return /^[A-Za-z_][A-Za-z0-9_.-]{0,23}$/.test(text) ? text : null;
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
