/**
 * Rows as they come from the database. An integer that a number cannot hold exactly was not written by this service: it
 * is read as a bigint, so that it damages its own row and not every row that is read with it.
 */

/** A row of which any number may be damaged. */
export type AsStored<Row> = {
  readonly [Column in keyof Row]: Extract<Row[Column], number> extends never ? Row[Column] : Row[Column] | bigint;
};

/** The row, if none of its numbers is damaged; otherwise null. */
export function undamaged<Row extends object>(row: AsStored<Row>): Row | null {
  return Object.values(row).some((cell) => typeof cell === 'bigint') ? null : (row as Row);
}
