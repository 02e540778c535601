/**
 * Whether something has to be waited for. Told by its `then` and not by its class: under Jest the promises of Node itself
 * are of another class than ours.
 */
export function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
