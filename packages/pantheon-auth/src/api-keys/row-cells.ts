/** What a cell of a row says, and how a value is written into one. A column that is not there reads as null. */
import type { Cell } from '../events/ledger.ts';
import type { JsonObject } from '../foundation/encoding.ts';

export function text(cell: Cell | undefined): string {
  return String(cell);
}

export function textOrNull(cell: Cell | undefined): string | null {
  return cell === null || cell === undefined ? null : String(cell);
}

export function numberOrNull(cell: Cell | undefined): number | null {
  return cell === null || cell === undefined ? null : Number(cell);
}

export function jsonOrNull(value: unknown): string | null {
  return value === null || value === undefined ? null : JSON.stringify(value);
}

export function parseOrNull(cell: Cell | undefined): JsonObject | null {
  return cell === null || cell === undefined ? null : (JSON.parse(String(cell)) as JsonObject);
}
