/** How texts of people are compared when they are searched: what looks the same is found, whatever it was typed on. */

/**
 * One spelling for all that differ in case or in how an accent is composed (`é` has two). Databases fold in the same
 * way: PostgreSQL by its own functions, SQLite by this one.
 */
export function foldText(text: string): string {
  // Composed first, because an accent can stand between a letter and its case; again after, because case can undo it.
  return text.normalize('NFC').toLowerCase().normalize('NFC').replaceAll('\u03c2', '\u03c3');
}

/** A letter, a digit or a sign: something that can be seen. Fillers and blank patterns count as such in Unicode. */
const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}]/u;
const BLANKS = /[\p{Default_Ignorable_Code_Point}\u2800]/gu;

/** Whether anything of a text can be seen. A name that nobody sees cannot be told from the one beside it. */
export function isVisible(text: string): boolean {
  return VISIBLE.test(text.replace(BLANKS, ''));
}
