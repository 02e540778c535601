/** Folding of text for searches: texts that look the same match, whatever their case and Unicode composition. */

/**
 * The same result for texts that differ only in case or in the composition of accents (`é` has two forms). The
 * databases fold in the same way: PostgreSQL with its own functions, SQLite with this one.
 */
export function foldText(text: string): string {
  // Composed before lower-casing, because a separate accent can affect it, and again after, because lower-casing can
  // decompose.
  return text.normalize('NFC').toLowerCase().normalize('NFC').replaceAll('\u03c2', '\u03c3');
}

/**
 * A letter, digit, punctuation or symbol. Some invisible characters are in these Unicode categories and are excluded
 * below.
 */
const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}]/u;
const BLANKS = /[\p{Default_Ignorable_Code_Point}\u2800]/gu;

/** Whether a text has a visible character. Invisible names could not be distinguished in a list. */
export function isVisible(text: string): boolean {
  return VISIBLE.test(text.replace(BLANKS, ''));
}
