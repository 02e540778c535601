/** SQL functions of ours that statements for SQLite rely on. Every connection that reads has the same ones. */
import type { DatabaseSync } from 'node:sqlite';
import { foldText } from '../../foundation/folded-text.ts';

/** Adds them to a connection. */
export function addFunctions(connection: DatabaseSync): void {
  // SQLite's own folds ASCII only, and a name may be in any language.
  connection.function('lower', { deterministic: true }, (text) => foldText(String(text)));
}
