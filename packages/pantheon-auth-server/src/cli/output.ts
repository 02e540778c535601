/**
 * Output of commands. Results go to stdout, everything else to stderr, so that `$(…)` and `>` get only the result.
 * Control and direction characters in text from others are made visible, so that it cannot change what the terminal
 * shows.
 */
import { styleText } from 'node:util';
import CliTable3 from 'cli-table3';

/** The part of a stream that is needed here. */
export interface Sink extends NodeJS.WritableStream {
  readonly isTTY?: boolean;
}

export interface Sinks {
  readonly stdout: Sink;
  readonly stderr: Sink;
}

export class Output {
  readonly #sinks: Sinks;
  /** Whether `--json` was given. */
  readonly json: boolean;

  constructor(sinks: Sinks, json: boolean) {
    this.#sinks = sinks;
    this.json = json;
  }

  /** Prints the answer of the service as indented JSON. */
  answer(body: unknown): void {
    this.#sinks.stdout.write(`${safeJson(body)}\n`);
  }

  line(text: string): void {
    this.#sinks.stdout.write(`${printable(text)}\n`);
  }

  /** Prints additional information to stderr. */
  note(text: string): void {
    this.#sinks.stderr.write(`${this.#styled('dim', printable(text), this.#sinks.stderr)}\n`);
  }

  /** Prints a warning to stderr. */
  warn(text: string): void {
    this.#sinks.stderr.write(`${this.#styled('yellow', `Warning: ${printable(text)}`, this.#sinks.stderr)}\n`);
  }

  /** Prints an error: one line, or the problem document with `--json`. */
  fail({ line, problem }: { readonly line: string; readonly problem: object }): void {
    const text = this.json ? safeJson(problem) : this.#styled('red', line, this.#sinks.stderr);
    this.#sinks.stderr.write(`${text}\n`);
  }

  /** Prints the result of a verification. */
  verdict(isYes: boolean, text: string): void {
    const { stdout } = this.#sinks;
    this.#sinks.stdout.write(`${this.#styled(isYes ? 'green' : 'red', printable(text), stdout)}\n`);
  }

  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    const titles = head.map((title) => this.#styled('bold', title, this.#sinks.stdout));
    this.#sinks.stdout.write(`${tableOf([titles, ...rows.map((row) => row.map(printable))])}\n`);
  }

  /** Prints name and value pairs, one per line. */
  facts(facts: readonly (readonly [name: string, value: string])[], to: keyof Sinks = 'stdout'): void {
    if (facts.length === 0) return;
    const sink = this.#sinks[to];
    const rows = facts.map(([name, value]) => [this.#styled('bold', name, sink), printable(value)]);
    sink.write(`${tableOf(rows)}\n`);
  }

  /** `styleText` checks the stream, NO_COLOR and FORCE_COLOR. */
  #styled(style: 'bold' | 'dim' | 'red' | 'green' | 'yellow', text: string, stream: Sink): string {
    return stream.isTTY === true ? styleText(style, text, { stream, validateStream: true }) : text;
  }
}

const NO_LINES = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};

/** Without borders, so that `awk` and `cut` can read it. */
function tableOf(rows: readonly (readonly string[])[]): string {
  const table = new CliTable3({
    chars: NO_LINES,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  table.push(...rows.map((row) => [...row]));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Control characters, direction characters and line separators, with which a name could forge terminal output. */
const UNSAFE = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu;

/** The text with control and direction characters made visible. */
export function printable(text: string): string {
  return text.replace(UNSAFE, escaped);
}

/**
 * JSON with those characters escaped: the same value for every parser. `JSON.stringify` escapes the lower control
 * characters itself.
 */
function safeJson(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(/[\u007f-\u009f\p{Bidi_Control}\p{Zl}\p{Zp}]/gu, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
