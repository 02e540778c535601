/** Part of a list, with the position to continue from. */

export interface ListPart<Item, Position> {
  /** In the order of the list. May be fewer than the limit, or none, although there are more. */
  readonly items: readonly Item[];
  /** The next part begins strictly after this position. Null at the end of the list. */
  readonly next: Position | null;
}
