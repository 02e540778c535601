/**
 * Reads secrets from a file, the environment or standard input, never from an argument, which every process of the
 * machine can read and the shell history keeps. An argument that looks like a secret is refused and not repeated.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { hasCode, holdsCredential, PantheonError, Secret } from 'pantheon-auth';

/** A key has at most 87 characters and a token 8192. The rest allows for white space. */
const SECRET_BYTES_MAX = 16_384;
/** Characters allowed in an `Authorization` header. */
const SECRET_PATTERN = /^[\x21-\x7e]+$/;

/** @throws PantheonError `invalid_request` when an argument looks like a secret; it is not repeated. */
export function refuseSecretArguments(args: readonly string[]): void {
  if (!args.some(holdsCredential)) return;
  throw new PantheonError('invalid_request', {
    detail:
      'An argument looks like a key or a token, which every process of this machine can read and the shell keeps — ' +
      'Replace it, and give the new one by standard input, a file or the environment',
  });
}

export interface SecretSources {
  /** Whether a key or a token is read. */
  readonly name: 'key' | 'token';
  /** `-` is standard input. */
  readonly file: string | undefined;
  readonly variable: { readonly name: string; readonly value: string | undefined };
  readonly stdin: NodeJS.ReadStream;
  readonly stderr: NodeJS.WritableStream;
  readonly onWarning: OnWarning;
}

export type OnWarning = (warning: string) => void;

const NOT_THE_OWNER = 0o077;

/**
 * The secret that a command is about: from `--…-file`, else the variable, else standard input. At a terminal it is
 * prompted for and not echoed.
 *
 * @throws PantheonError `invalid_request`.
 */
export async function readSecret(sources: SecretSources): Promise<Secret> {
  const { name, file, variable, stdin, stderr, onWarning } = sources;
  if (file !== undefined && file !== '-') return readSecretFile(file, name, onWarning);
  if (file === undefined && variable.value !== undefined) return toSecret(variable.value, name, variable.name);
  if (stdin.isTTY) return toSecret(await prompt(`The ${name} (not shown): `, stdin, stderr), name, 'standard input');
  return toSecret(await readAll(stdin, name), name, 'standard input');
}

/** @throws PantheonError `invalid_request` in `field`, naming the file. */
export async function readSecretFile(path: string, field: string, onWarning: OnWarning): Promise<Secret> {
  const onMode = (mode: number): void => {
    if ((mode & NOT_THE_OWNER) !== 0)
      onWarning(`The file ${path} is open to others than its owner. Run: chmod 600 ${path}`);
  };
  return toSecret(await readTextFile(path, field, SECRET_BYTES_MAX, onMode), field, path);
}

/** Reads a small text file, or a pipe, which is what a shell passes for `<(…)`. */
export async function readTextFile(
  path: string,
  field: string,
  bytesMax: number,
  onMode: (mode: number) => void = () => {},
): Promise<string> {
  try {
    const file = await open(path, constants.O_RDONLY);
    try {
      // The mode of a pipe does not matter. On Windows the mode does not show who may read the file.
      const stat = await file.stat();
      if (stat.isFile() && process.platform !== 'win32') onMode(stat.mode);
      return await readAll(file.createReadStream({ autoClose: false }), field, bytesMax);
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (cause instanceof PantheonError) throw cause;
    const why = hasCode(cause, 'ENOENT') ? 'does not exist' : 'cannot be read';
    throw new PantheonError('invalid_request', { field, detail: `The file ${path} ${why}`, cause });
  }
}

async function readAll(stream: NodeJS.ReadableStream, field: string, bytesMax = SECRET_BYTES_MAX): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk);
    length += bytes.length;
    if (length > bytesMax) throw invalid(field, `More than ${bytesMax} bytes were given`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function toSecret(text: string, field: string, from: string): Secret {
  const trimmed = text.trim();
  if (trimmed === '') throw invalid(field, `Nothing came from ${from}`);
  if (!SECRET_PATTERN.test(trimmed)) throw invalid(field, `What came from ${from} is not one ${field} alone`);
  return Secret.of(trimmed);
}

/** Reads a line without echoing it: the output of the line editor is discarded. */
function prompt(question: string, stdin: NodeJS.ReadStream, stderr: NodeJS.WritableStream): Promise<string> {
  stderr.write(question);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: stdin, output: nowhere, terminal: true });
  return new Promise((resolve, reject) => {
    let answer = '';
    lines.once('line', (line) => {
      answer = line;
      lines.close();
    });
    lines.once('SIGINT', () => {
      reject(new PantheonError('invalid_request', { detail: 'Interrupted' }));
      lines.close();
    });
    lines.once('close', () => {
      stderr.write('\n');
      stdin.pause();
      resolve(answer);
    });
  });
}

function invalid(field: string, detail: string): PantheonError {
  return new PantheonError('invalid_request', { field, detail });
}
