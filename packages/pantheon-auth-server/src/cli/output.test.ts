import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Output, printable, type Sink } from './output.ts';

function sinks(isTTY = false) {
  const stdout: Sink & PassThrough = Object.assign(new PassThrough(), { isTTY });
  const stderr: Sink & PassThrough = Object.assign(new PassThrough(), { isTTY });
  const read = (stream: PassThrough): string => {
    const chunks: unknown[] = [];
    for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) chunks.push(chunk);
    return chunks.join('');
  };
  return { stdout, stderr, out: () => read(stdout), err: () => read(stderr) };
}

test('results go to standard output and everything else to standard error', () => {
  const io = sinks();
  const output = new Output(io, false);
  output.line('result');
  output.note('note');
  output.warn('warning');
  output.fail({ line: 'failed', problem: {} });
  expect(io.out()).toBe('result\n');
  expect(io.err()).toBe('note\nWarning: warning\nfailed\n');
});

test('with --json an error is printed as its problem document', () => {
  const io = sinks();
  new Output(io, true).fail({ line: 'failed', problem: { code: 'not_found' } });
  expect(JSON.parse(io.err())).toEqual({ code: 'not_found' });
});

test('any JSON value is printed as JSON with the same meaning and without terminal control characters', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const io = sinks();
      new Output(io, true).answer(value);
      const text = io.out();
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
      expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/u);
    }),
  );
});

test('no text can start a line of its own, move the cursor or change the writing direction', () => {
  expect(printable('a\nb\r\u001b[31mc\u202ed\u2028e\u009bf')).toBe(
    'a\\u000ab\\u000d\\u001b[31mc\\u202ed\\u2028e\\u009bf',
  );
  const io = sinks();
  new Output(io, false).table(['NAME'], [['x\nFORGED row'], ['y']]);
  expect(io.out().trimEnd().split('\n')).toEqual(['NAME', 'x\\u000aFORGED row', 'y']);
});

test('tables have a heading for each column and no lines', () => {
  const io = sinks();
  const output = new Output(io, false);
  output.table(
    ['ID', 'NAME'],
    [
      ['a', 'first'],
      ['bbb', 'x'],
    ],
  );
  output.facts([
    ['id', 'a'],
    ['name', 'first'],
  ]);
  expect(io.out()).toBe('ID   NAME\na    first\nbbb  x\nid    a\nname  first\n');
});

test('a table without rows has its headings, and a list without facts prints nothing', () => {
  const io = sinks();
  new Output(io, false).table(['ID', 'NAME'], []);
  new Output(io, false).facts([]);
  expect(io.out()).toBe('ID  NAME\n');
});

test('there are no colours in a pipe', () => {
  const io = sinks();
  const output = new Output(io, false);
  output.verdict(true, 'valid');
  output.verdict(false, 'not valid');
  output.fail({ line: 'failed', problem: {} });
  expect(io.out() + io.err()).toBe('valid\nnot valid\nfailed\n');
});
