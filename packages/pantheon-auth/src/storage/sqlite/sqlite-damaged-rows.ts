/**
 * Rows of which one has an integer that a number cannot hold exactly. For that `node:sqlite` fails the whole statement, so
 * it is run again with every integer as a bigint. Rows without damage are read once and converted by nobody.
 */
import type { SQLOutputValue, StatementSync } from 'node:sqlite';

type Row = Record<string, SQLOutputValue>;

/** Calls `read`, which runs a statement that only selects; again if a row is damaged. Damaged integers are bigints. */
export function readDamagedRows(statement: StatementSync, read: () => Row[]): Row[] {
  try {
    return read();
  } catch (error) {
    if ((error as { readonly code?: unknown }).code !== 'ERR_OUT_OF_RANGE') throw error;
  }
  statement.setReadBigInts(true);
  try {
    return read().map(withNumbers);
  } finally {
    statement.setReadBigInts(false);
  }
}

function withNumbers(row: Row): Row {
  return Object.fromEntries(Object.entries(row).map(([name, cell]) => [name, toNumber(cell)]));
}

function toNumber(cell: SQLOutputValue): SQLOutputValue {
  if (typeof cell !== 'bigint') return cell;
  const number = Number(cell);
  return Number.isSafeInteger(number) ? number : cell;
}
