/**
 * Faults of a text that somebody wrote into a setting: what a shell, an editor or a file brought along and the writer
 * does not see. Such a value is often valid and means something else: `"/data"` with its quotation marks is another
 * folder, in which a new and empty store would be made.
 */

/** As the character, and as its UTF-8 bytes look to who reads them as Latin-1. */
const BYTE_ORDER_MARK = /\ufeff|\u00ef\u00bb\u00bf|^\u00ff\u00fe|^\u00fe\u00ff/;
const INVISIBLE = /[\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;
const QUOTATION_MARK = /^['"`\u2018-\u201f\u00ab\u00bb]|['"`\u2018-\u201f\u00ab\u00bb]$/u;

/** What is wrong with the text, as a sentence that repeats nothing of it; null: nothing. */
export function textFlaw(text: string): string | null {
  if (text.trim() === '') return 'It is empty. Give a value or leave it out.';
  if (BYTE_ORDER_MARK.test(text))
    return 'It begins with or holds a byte order mark: save the file it comes from as UTF-8 without one.';
  if (/\p{Cc}/u.test(text))
    return 'It holds a control character, such as the line end of a file from Windows: take it out.';
  if (INVISIBLE.test(text)) return 'It holds an invisible character: write it again by hand.';
  if (text.trim() !== text) return 'It begins or ends with a blank: take it out.';
  if (QUOTATION_MARK.test(text))
    return 'It begins or ends with a quotation mark, which here is part of the value: take it out.';
  return null;
}

/** The same for the path of a file or folder, in which only a shell knows what `~` and `$HOME` are. */
export function pathFlaw(text: string): string | null {
  const flaw = textFlaw(text);
  if (flaw !== null) return flaw;
  if (text.startsWith('~'))
    return 'It begins with ~, which only a shell reads as the home folder: write the whole path.';
  if (/\$[({A-Za-z_]|^%\w+%/.test(text)) return 'It holds the name of a variable that nothing has filled in.';
  return null;
}
