/** How tenants share what is bounded for all of them together. */

/** The last part of it is kept for those that have less than this part: one tenant alone does not fill it. */
const KEPT_FOR_OTHERS = 1 / 4;

/** Whether so much may be in use: by all tenants, and of that by the one that asks. */
export function isFairShare(use: { readonly all: number; readonly own: number }, max: number): boolean {
  const kept = Math.floor(max * KEPT_FOR_OTHERS);
  return use.all <= max && (use.all <= max - kept || use.own <= kept);
}
