/**
 * One run of a command that calls the API: resolves the server or data folder and the caller's key, and closes what it
 * opened.
 */
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { PantheonError, pathFlaw, type Secret, textFlaw } from 'pantheon-auth';
import { type ClientVariables, type Environment, type Flags, loadConfig } from '../settings/config.ts';
import type { ExitCode } from './exit-codes.ts';
import { Output, type Sinks } from './output.ts';
import { RemoteTransport } from './remote-transport.ts';
import { type OnWarning, readSecret, readSecretFile } from './secret-input.ts';
import type { Credential, Transport } from './transport.ts';

/** The environment of one run: streams, variables, clock. */
export interface CliContext extends Sinks {
  readonly stdin: NodeJS.ReadStream;
  readonly variables: ClientVariables;
  /** Environment variables. Default: those of the process. */
  readonly environment?: Environment;
}

/** The options that all commands which call the API have. */
export interface ConnectionOptions {
  readonly url?: string;
  readonly dataDir?: string;
  readonly callerKeyFile?: string;
  readonly insecureHttp?: true;
  readonly tenant?: string;
  readonly json?: true;
}

export function withConnection(command: Command): Command {
  return command
    .option('--url <url>', 'URL of a server; default: PANTHEON_AUTH_URL, else the database of the settings')
    .option('--data-dir <folder>', 'data folder, also of a running server; default: PANTHEON_AUTH_DATA_DIR')
    .option(
      '--caller-key-file <file>',
      'file of your own key; default: PANTHEON_AUTH_KEY_FILE, PANTHEON_AUTH_KEY, the root key file',
    )
    .option('--insecure-http', 'send keys over plain HTTP to another machine')
    .option('--tenant <id>', 'act in this tenant, with a key of the system tenant')
    .option('--json', 'print the answer of the API as JSON');
}

/** The implementation of a command. `args` are the positional arguments, unparsed. */
export type Handler<Options> = (session: Session, options: Options, args: readonly string[]) => Promise<ExitCode>;

export class Session {
  readonly output: Output;
  readonly #context: CliContext;
  readonly #options: ConnectionOptions;
  #transport: Transport | null = null;
  readonly #warn: OnWarning = (warning) => this.output.warn(warning);

  constructor(context: CliContext, options: ConnectionOptions) {
    this.#context = context;
    this.#options = options;
    this.output = new Output(context, options.json === true);
  }

  /** The URL of the server; null: the command works on the database of the settings. */
  get url(): string | null {
    const { url, dataDir } = this.#options;
    if (url !== undefined && dataDir !== undefined)
      throw new PantheonError('invalid_request', { field: 'url', detail: 'Give --url or --data-dir, not both' });
    return url ?? (dataDir === undefined ? this.#variable('URL', textFlaw) : undefined) ?? null;
  }

  /** The transport for calls of the API. */
  async connect(): Promise<Transport> {
    this.#transport ??= await this.#open();
    return this.#transport;
  }

  /** Headers of a request, with the tenant of `--tenant`. */
  headers(more: Readonly<Record<string, string | undefined>> = {}): Record<string, string> {
    const given = Object.entries({ 'pantheon-tenant': this.#options.tenant, ...more });
    for (const [name, value] of given) {
      if (value !== undefined && !/^[\x21-\x7e]{1,256}$/.test(value))
        throw new PantheonError('invalid_request', { field: name, detail: 'Printable ASCII without spaces' });
    }
    return Object.fromEntries(given.filter((entry): entry is [string, string] => entry[1] !== undefined));
  }

  /** The key or token that the command is about. */
  secret(name: 'key' | 'token', file: string | undefined): Promise<Secret> {
    const { stdin, stderr, variables } = this.#context;
    const suffix = name === 'key' ? 'SUBJECT_KEY' : 'SUBJECT_TOKEN';
    const variable = { name: `PANTHEON_AUTH_${suffix}`, value: variables[suffix] };
    return readSecret({ name, file, variable, stdin, stderr, onWarning: this.#warn });
  }

  async close(): Promise<void> {
    await this.#transport?.close();
  }

  async #open(): Promise<Transport> {
    const { url } = this;
    const { dataDir, insecureHttp } = this.#options;
    if (url !== null) {
      const callerKey = async (): Promise<Credential> => bearer((await this.#givenKey()) ?? missingKey());
      return new RemoteTransport({ url, callerKey, ...(insecureHttp && { insecureHttp }) });
    }
    const flags: Flags = dataDir === undefined ? {} : { DATA_DIR: dataDir };
    const { config } = loadConfig(flags, this.#context.environment);
    const callerKey = async (): Promise<Credential> =>
      bearer((await this.#givenKey()) ?? (await readRootKey(config.rootKeyFile, this.#warn)));
    // Imported when needed: it loads the whole server, which is most of the start time of a command.
    const { LocalTransport } = await import('./local-transport.ts');
    return LocalTransport.open({ config, callerKey, onWarning: this.#warn });
  }

  /**
   * Validated like a setting, where it is used. Secrets are validated where they are read, since a line end after one
   * is accepted.
   */
  #variable(name: 'URL' | 'KEY_FILE', flawOf: typeof textFlaw): string | undefined {
    const value = this.#context.variables[name];
    const flaw = value === undefined ? null : flawOf(value);
    if (flaw !== null) throw new PantheonError('invalid_setting', { field: name, detail: flaw });
    return value;
  }

  async #givenKey(): Promise<Secret | null> {
    const { variables, stdin, stderr } = this.#context;
    const file = this.#options.callerKeyFile ?? this.#variable('KEY_FILE', pathFlaw);
    if (file !== undefined) return readSecretFile(file, 'caller-key-file', this.#warn);
    if (variables.KEY === undefined) return null;
    const variable = { name: 'PANTHEON_AUTH_KEY', value: variables.KEY };
    return readSecret({ name: 'key', file: undefined, variable, stdin, stderr, onWarning: this.#warn });
  }
}

/** Sets the implementation of a command. Its exit code is passed to `finish`. */
export function runCommand<Options extends ConnectionOptions>(
  command: Command,
  context: CliContext,
  finish: (code: ExitCode) => void,
  handler: Handler<Options>,
): void {
  command.action(async () => {
    const options = command.opts<Options>();
    const session = new Session(context, options);
    try {
      finish(await handler(session, options, command.args));
    } finally {
      await session.close();
    }
  });
}

function bearer(secret: Secret): Credential {
  return { scheme: 'bearer', secret };
}

/** The root key file may be missing, because operators should move it away after the first start. */
async function readRootKey(path: string, onWarning: OnWarning): Promise<Secret> {
  if (existsSync(path)) return readSecretFile(path, 'ROOT_KEY_FILE', onWarning);
  const detail = `There is no root key in ${path}: name the file of your own key with --caller-key-file`;
  throw new PantheonError('missing_credential', { detail });
}

function missingKey(): never {
  throw new PantheonError('missing_credential', {
    detail: 'A server requires your key: name its file with --caller-key-file or PANTHEON_AUTH_KEY_FILE',
  });
}
