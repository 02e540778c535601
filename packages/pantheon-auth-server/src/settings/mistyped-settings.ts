/** Tells a mistyped setting, which must stop the start, from a variable of another program. */

/** With more changes it is a different word. */
const DISTANCE_MAX = 2;
/** In a word this short, two changes already make a different word. */
const SHORT_WORD = 5;

export interface Mistyped<Name extends string> {
  readonly written: string;
  readonly meant: Name;
}

/** Checks the names of variables and returns the first mistyped one. */
export function findMistyped<Name extends string>(
  variables: readonly string[],
  prefix: string,
  known: readonly Name[],
): { readonly mistyped: Mistyped<Name> | null; readonly unknown: readonly string[] } {
  const names = new Set<string>(known.map((name) => prefix + name));
  const ours = variables.filter((written) => plain(written).startsWith(prefix) && !names.has(written)).sort();
  for (const written of ours) {
    const meant = closest(plain(written).slice(prefix.length), known);
    if (meant !== null) return { mistyped: { written: printable(written), meant }, unknown: [] };
  }
  return { mistyped: null, unknown: ours };
}

/** The name without what a settings file may put before it: a byte order mark, `export`, spaces. */
function plain(written: string): string {
  return written.toUpperCase().replace(/^(?:EXPORT\s+|[^A-Z0-9_]+)+/, '');
}

/** Makes invisible characters in a name visible. */
function printable(written: string): string {
  return written.replace(/[^\x21-\x7e]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function closest<Name extends string>(word: string, known: readonly Name[]): Name | null {
  const [best] = known
    .map((name) => ({ name, distance: editDistance(word, name) }))
    .sort((one, other) => one.distance - other.distance);
  const max = word.length <= SHORT_WORD ? 1 : DISTANCE_MAX;
  return best !== undefined && best.distance <= max ? best.name : null;
}

/** The number of insertions, deletions, replacements and swaps of neighbours between two words. */
export function editDistance(one: string, other: string): number {
  const rows: number[][] = [Array.from({ length: other.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number): number => rows[row]?.[column] ?? 0;
  for (let row = 1; row <= one.length; row += 1) {
    rows.push([row]);
    for (let column = 1; column <= other.length; column += 1) {
      const isSame = one[row - 1] === other[column - 1];
      const replaced = at(row - 1, column - 1) + (isSame ? 0 : 1);
      const isSwap = one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1];
      const swapped = isSwap && row > 1 && column > 1 ? at(row - 2, column - 2) + 1 : replaced;
      rows[row]?.push(Math.min(at(row - 1, column) + 1, at(row, column - 1) + 1, replaced, swapped));
    }
  }
  return at(one.length, other.length);
}
