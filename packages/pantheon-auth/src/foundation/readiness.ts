/** Work that is usually ready at once and sometimes has to wait: so that who need not wait does not. */

/** A value, or the promise of one. */
export type Ready<T> = T | Promise<T>;

/** Goes on with the value: now if it is there, else when it is. */
export function whenReady<T, U>(value: Ready<T>, next: (value: T) => Ready<U>): Ready<U> {
  return isWaiting(value) ? value.then(next) : next(value);
}

/** A promise of any realm: under Jest those of Node itself are of another class than ours. */
export function isWaiting<T>(value: Ready<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
