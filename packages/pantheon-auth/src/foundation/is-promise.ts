/**
 * Whether a value is a promise. Checks for `then` and not for the class, because under Jest the promises of Node have
 * another class.
 */
export function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
