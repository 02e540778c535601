/**
 * Finds mistakes in the text of a setting that come from a shell, an editor or a file and are hard to see. Such a value
 * is often valid but means something else: `"/data"` with its quotation marks is another folder, in which a new, empty
 * database would be created.
 */

/** As a character, as UTF-8 bytes read as Latin-1, and as UTF-16 bytes read as Latin-1. */
const BYTE_ORDER_MARK = /\ufeff|\u00ef\u00bb\u00bf|^\u00ff\u00fe|^\u00fe\u00ff/;
const INVISIBLE = /[\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;
const QUOTATION_MARK = /^['"`\u2018-\u201f\u00ab\u00bb]|['"`\u2018-\u201f\u00ab\u00bb]$/u;

/** The mistake, as a sentence that does not repeat the text; null: none. */
export function textFlaw(text: string): string | null {
  if (text.trim() === '') return 'It is empty. Give a value or omit it.';
  if (BYTE_ORDER_MARK.test(text))
    return 'It begins with or contains a byte order mark: save its file as UTF-8 without one.';
  if (/\p{Cc}/u.test(text))
    return 'It contains a control character, such as the line end of a Windows file: remove it.';
  if (INVISIBLE.test(text)) return 'It contains an invisible character: type it again by hand.';
  if (text.trim() !== text) return 'It begins or ends with a space: remove it.';
  if (QUOTATION_MARK.test(text))
    return 'It begins or ends with a quotation mark, which is part of the value here: remove it.';
  return null;
}

/** The same for a file path, in which `~` and `$HOME` are also mistakes, because only a shell expands them. */
export function pathFlaw(text: string): string | null {
  const flaw = textFlaw(text);
  if (flaw !== null) return flaw;
  if (text.startsWith('~'))
    return 'It begins with ~, which only a shell expands to the home folder: write the whole path.';
  if (/\$[({A-Za-z_]|^%\w+%/.test(text)) return 'It contains a variable that was not expanded.';
  return null;
}

/** Whether every percent sign begins the code of a character. It does not in a password that was not percent-encoded. */
export function isPercentDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}
