/** The README's commands are found, and none is left out by mistake. */
import { describe, expect, test } from 'vitest';
import { readBlocks } from './readme-commands/blocks.ts';

const SERVE = '<!-- run: serve -->\n```sh\nnpm ci && npm start\n```\n';

describe('a document', () => {
  test('gives its commands unchanged, with their kind, the expected output and their line', () => {
    const document = `# Title\n\n${SERVE}\nText.\n\n<!-- run: call again, expect: "valid": true -->\n\n\`\`\`sh\nA=1\n\ncurl -s \\\n  x\n\`\`\`\n`;
    expect(readBlocks(document)).toEqual([
      { kind: 'serve', expected: null, commands: 'npm ci && npm start', line: 5 },
      { kind: 'call again', expected: '"valid": true', commands: 'A=1\n\ncurl -s \\\n  x', line: 13 },
    ]);
  });

  test('may show other languages, and comments of its own', () => {
    expect(readBlocks(`${SERVE}<!-- a comment -->\n\`\`\`ts\n<!-- run: serve -->\n\`\`\`\n`)).toHaveLength(1);
  });

  test('may have commands that cannot be run, if it gives the reason', () => {
    const block = '```sh\nnpm publish\n```\n';
    expect(readBlocks(`${SERVE}<!-- run: no (needs an account) -->\n${block}`)).toHaveLength(2);
    expect(() => readBlocks(`${SERVE}<!-- run: no -->\n${block}`)).toThrow('line 5: not a marker');
  });

  test.each([
    ['a command that is not run', '```sh\nrm x\n```', 'line 5: a `sh` block needs a marker'],
    ['a kind that does not exist', '<!-- run: cal -->\n```sh\nx\n```', 'line 5: not a marker'],
    ['a marker without a block', '<!-- run: call -->\ntext', 'line 6: a marker stands right above'],
    ['a marker above another language', '<!-- run: call -->\n```ts\nx\n```', 'line 6: a marker stands right above'],
    ['two markers', '<!-- run: call -->\n<!-- run: call -->\n```sh\nx\n```', 'line 6: the marker above has no block'],
    ['a marker at the end', '<!-- run: call -->', 'the last marker has no block'],
    ['a block without an end', '<!-- run: call -->\n```sh\nx', 'line 6: the block has no end'],
    ['a second server', SERVE, 'not 2'],
  ])('fails on %s', (_name, text, message) => {
    expect(() => readBlocks(SERVE + text)).toThrow(message);
  });

  test('fails without a server', () => {
    expect(() => readBlocks('# Title\n')).toThrow('not 0');
  });
});
