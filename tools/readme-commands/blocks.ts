/** Finds the commands of a Markdown document and what is to be done with each, from the marker above it. */

/**
 * - `serve`: starts the service and stays in the foreground, as in a reader's first terminal. Exactly one.
 * - `call`: runs while the service runs, as in a reader's second terminal: variables last from block to block.
 * - `call again`: the same, and once more after the service was stopped and started, to show that the data is there.
 * - `test`: runs by itself in a clean clone of its own. Left out with `--without-tests`.
 * - `alone`: all of these run one after the other in a terminal of their own, in a clean clone where `npm ci` was run.
 * - `no`: cannot be run here, and says why: `<!-- run: no (needs a cloud account) -->`.
 */
export type BlockKind = 'serve' | 'call' | 'call again' | 'test' | 'alone' | 'no';

export interface Block {
  readonly kind: BlockKind;
  /** What the output must contain, white space aside: `<!-- run: call, expect: "valid": true -->`. */
  readonly expected: string | null;
  readonly commands: string;
  /** Of the first command, from 1. */
  readonly line: number;
}

const MARKER =
  /^<!-- run: (?<kind>serve|call again|call|test|alone|no(?= \(.+\)))(?: \(.+\))?(?:, expect: (?<expected>.+))? -->$/;

/** @throws with the line when a `sh` block has no marker, or a marker is wrong or stands alone. */
export function readBlocks(markdown: string): readonly Block[] {
  const blocks: Block[] = [];
  const lines = markdown.split('\n');
  let marker: { readonly kind: BlockKind; readonly expected: string | null } | null = null;
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index]?.trim() ?? '';
    if (line.startsWith('<!-- run')) {
      const groups = MARKER.exec(line)?.groups;
      if (groups === undefined) throw new Error(`line ${index + 1}: not a marker of tools/readme-commands: ${line}`);
      if (marker !== null) throw new Error(`line ${index + 1}: the marker above has no block`);
      marker = { kind: groups['kind'] as BlockKind, expected: groups['expected'] ?? null };
      continue;
    }
    if (!line.startsWith('```')) {
      if (line !== '' && marker !== null)
        throw new Error(`line ${index + 1}: a marker stands right above its \`sh\` block`);
      continue;
    }
    const end = lines.findIndex((other, at) => at > index && other.trim() === '```');
    if (end === -1) throw new Error(`line ${index + 1}: the block has no end`);
    if (line === '```sh') {
      if (marker === null) throw new Error(`line ${index + 1}: a \`sh\` block needs a marker: <!-- run: … -->`);
      blocks.push({ ...marker, commands: lines.slice(index + 1, end).join('\n'), line: index + 2 });
    } else if (marker !== null) {
      throw new Error(`line ${index + 1}: a marker stands right above its \`sh\` block`);
    }
    marker = null;
    index = end;
  }
  if (marker !== null) throw new Error(`line ${lines.length}: the last marker has no block`);
  const serving = blocks.filter(({ kind }) => kind === 'serve').length;
  if (serving !== 1) throw new Error(`there must be one block that is run: serve, not ${serving}`);
  return blocks;
}
