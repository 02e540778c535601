/**
 * What every attack stands on: an engine or a service of its own in a folder that goes away, a clock that is moved by
 * hand, every SQL statement that runs, and everything that is written (logs, answers, both output streams), searched in
 * the end for every secret that was ever handed out.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, StatementSync } from 'node:sqlite';
import {
  type CreatedKey,
  type CreateKeyInput,
  createPantheonAuth,
  type EmbeddedOptions,
  type PantheonAuth,
} from 'pantheon-auth';
import { scratchFolder, TestClock } from 'pantheon-auth/testing';
import { createApp, createLogger, loadConfig } from 'pantheon-auth-server';
import { expect } from 'vitest';
import { rootKeyStore } from '../../packages/pantheon-auth-server/src/service/open.ts';

export const ISSUER = 'http://localhost:8787';
/** A generous bound and no benchmark: what is refused is refused without work that grows with the attack. */
export const ANSWER_MAX_MS = 250;
/** As many characters of a secret as cannot occur by chance. */
const TELLING_LENGTH = 12;

/** Everything that was written since the start of this file of attacks, and everything that must not be in it. */
const written: string[] = [];
const secrets = new Set<string>();

for (const stream of [process.stdout, process.stderr]) {
  const write = stream.write.bind(stream);
  stream.write = ((chunk: string | Uint8Array, ...rest: never[]) => {
    written.push(Buffer.from(chunk as Uint8Array).toString('utf8'));
    return write(chunk, ...rest);
  }) as typeof stream.write;
}

/** From now on this must be found nowhere. */
export function keepSecret(...texts: readonly string[]): void {
  for (const text of texts) secrets.add(text);
}

/** Remembers an answer or a line, to be searched later. */
export function noteWritten(text: string): void {
  written.push(text);
}

/** No piece of any secret is in any log line, answer or output. Call it after the last attack of a file. */
export function expectNoSecretWritten(): void {
  const all = written.join('\n');
  expect(secrets.size).toBeGreaterThan(0);
  const told = [...secrets].filter((secret) => piecesOf(secret).some((piece) => all.includes(piece)));
  expect(told).toEqual([]);
}

/** Of a key string the public part may be told; of everything else nothing. */
function piecesOf(secret: string): readonly string[] {
  const secretPart = /^[a-z0-9]+_(?:live|test)_[0-9A-Za-z]{16}([0-9A-Za-z]{43})/.exec(secret)?.[1];
  const whole = secretPart ?? secret;
  return [whole.slice(0, TELLING_LENGTH), whole.slice(-TELLING_LENGTH)];
}

/** The text of every statement that SQLite runs while `work` does, whichever way it was prepared. */
export async function statementsOf(work: () => unknown): Promise<string[]> {
  const from = ran.length;
  recording += 1;
  try {
    await work();
  } finally {
    recording -= 1;
  }
  return ran.slice(from);
}

const ran: string[] = [];
let recording = 0;

function record(sql: string): void {
  if (recording > 0) ran.push(sql);
}

for (const name of ['all', 'get', 'run', 'iterate'] as const) {
  const original = StatementSync.prototype[name] as (...values: unknown[]) => unknown;
  StatementSync.prototype[name] = function (this: StatementSync, ...values: unknown[]): never {
    record(this.sourceSQL);
    return original.apply(this, values) as never;
  };
}
const exec = DatabaseSync.prototype.exec;
DatabaseSync.prototype.exec = function (this: DatabaseSync, sql: string): void {
  record(sql);
  if (sql === 'begin immediate') writers.set(this.location() ?? '', this);
  exec.call(this, sql);
};

/** The connection that last wrote to a file, by its path: to take the room away from it. */
export const writers = new Map<string, DatabaseSync>();

/** Statements that a yes may cost: whether the log has gone on (a microsecond, no disk). */
export function withoutHeadReads(statements: readonly string[]): readonly string[] {
  return statements.filter((sql) => !/^select seq, at\b.* from log_head\b/.test(sql));
}

export interface Engine extends AsyncDisposable {
  readonly auth: PantheonAuth;
  readonly clock: TestClock;
  readonly dataDir: string;
  readonly databaseFile: string;
  /** Creates a key whose string is a secret from then on. */
  create(input?: Partial<CreateKeyInput>, tenant?: string): Promise<CreatedKey>;
  /** Closes and opens the same data again. */
  restarted(): Promise<Engine>;
}

/** The engine alone. `dataDir` continues with the data of another one. */
export async function openEngine(
  options: Partial<EmbeddedOptions> & { readonly testClock?: TestClock } = {},
): Promise<Engine> {
  const { testClock: clock = new TestClock(), ...given } = options;
  const folder = given.dataDir === undefined ? scratchFolder() : null;
  const dataDir = given.dataDir ?? join(folder?.path ?? '', 'data');
  const auth = await createPantheonAuth({ dataDir, issuer: ISSUER, clock, logger: LOGGER, ...given });
  keepSecret(readFileSync(join(dataDir, 'master.key'), 'latin1').trim());
  const { databaseFile = join(dataDir, 'pantheon-auth.db') } = given;
  let disposeFolder = () => folder?.[Symbol.dispose]();
  return {
    auth,
    clock,
    dataDir,
    databaseFile,
    create: (input, tenant) => createKey(auth, input, tenant),
    restarted: async () => {
      await auth.close();
      const again = await openEngine({ ...given, dataDir, testClock: clock });
      const dispose = disposeFolder;
      disposeFolder = () => undefined;
      return {
        ...again,
        [Symbol.asyncDispose]: async () => {
          await again[Symbol.asyncDispose]();
          dispose();
        },
      };
    },
    [Symbol.asyncDispose]: async () => {
      await auth.close();
      disposeFolder();
    },
  };
}

async function createKey(auth: PantheonAuth, input: Partial<CreateKeyInput> = {}, tenant = 'default') {
  const created = await auth.tenant(tenant).keys.create({ userId: 'user-1', name: 'attacked', ...input });
  keepSecret(created.key);
  return created;
}

/** Errors of the engine are printed as an operator's log would print them: with stack and cause. */
const LOGGER = {
  warn: (fields: object, message: string) => noteWritten(`${message} ${describe(fields)}`),
  error: (fields: object, message: string) => noteWritten(`${message} ${describe(fields)}`),
};

function describe(fields: object): string {
  return JSON.stringify(fields, (_name, value: unknown) =>
    value instanceof Error ? { text: String(value), stack: value.stack, cause: value.cause } : value,
  );
}

/** A request as a test writes it. `by`: the credential. `secret`: the answer may show one. */
export interface Request {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS';
  readonly url: string;
  readonly by?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly payload?: string | object;
  readonly remoteAddress?: string;
  readonly secret?: true;
}

export interface Service extends AsyncDisposable {
  readonly engine: Engine;
  readonly auth: PantheonAuth;
  readonly app: Awaited<ReturnType<typeof createApp>>;
  /** The string of the first administrator. */
  readonly root: string;
  /** Puts a request to it; the answer is searched for secrets in the end unless `secret` says that it shows one. */
  call(request: Request): Promise<Answer>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly tookMs: number;
  json(): Record<string, unknown>;
}

/** The HTTP service over an engine. It does not listen: `app.listen` does where sockets matter. */
export async function openService(
  options: Parameters<typeof openEngine>[0] = {},
  settings: Parameters<typeof loadConfig>[0] = {},
): Promise<Service> {
  const engine = await openEngine(options);
  const { auth, dataDir, clock } = engine;
  const { config } = loadConfig({ DATA_DIR: dataDir, ...settings }, {}, dataDir);
  await auth.bootstrap(rootKeyStore(config.rootKeyFile));
  const root = readFileSync(config.rootKeyFile, 'latin1').trim();
  keepSecret(root);
  const logger = createLogger('trace', { write: (line) => noteWritten(line) });
  const app = await createApp({ auth, config, logger, clock });
  return {
    engine,
    auth,
    app,
    root,
    call: async ({ by, secret, ...request }) => {
      const started = performance.now();
      const headers = { ...(by !== undefined && { authorization: `Bearer ${by}` }), ...request.headers };
      const response = await app.inject({ ...request, headers });
      const tookMs = performance.now() - started;
      if (secret === undefined) noteWritten(JSON.stringify(response.headers) + response.body);
      expect(response.statusCode, response.body).toBeLessThan(500);
      return {
        status: response.statusCode,
        headers: response.headers,
        text: response.body,
        tookMs,
        json: () => JSON.parse(response.body) as Record<string, unknown>,
      };
    },
    [Symbol.asyncDispose]: async () => {
      await app.close();
      await engine[Symbol.asyncDispose]();
    },
  };
}

/** What a caller can tell one answer from another by: all of it but the request id and the date. */
export function tellable({ status, headers, text }: Pick<Answer, 'status' | 'headers' | 'text'>): unknown {
  const { date: _date, ...rest } = headers as Record<string, unknown>;
  return { status, headers: rest, text: text.replace(/urn:pantheon-auth:request:[\w-]+/g, 'urn:…') };
}
