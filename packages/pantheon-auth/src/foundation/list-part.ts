/** Part of a long list, and where to go on. */

export interface ListPart<Item, Position> {
  /** In the order of the list. May be fewer than asked for, or none, although there are more. */
  readonly items: readonly Item[];
  /** What follows comes strictly after it. Null at the end of the list. */
  readonly next: Position | null;
}
