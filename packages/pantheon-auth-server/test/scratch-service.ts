/**
 * A service for tests, on a data folder of its own that is deleted with it. Its log is kept so that tests can search it.
 * With a `DATABASE_URL` of PostgreSQL it creates its tables, a master key and a root key there.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance, InjectOptions } from 'fastify';
import type { CreatedKey, CreateKeyInput, PantheonAuth } from 'pantheon-auth';
import { createApp } from '../src/app.ts';
import { createLogger } from '../src/http/logging.ts';
import { migrateStore, openService, rootKeyStore } from '../src/service/open.ts';
import { type Config, type Flags, loadConfig } from '../src/settings/config.ts';

type Method = Exclude<InjectOptions['method'], undefined>;

/** An answer as tests look at it. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  /** Parsed, where it is JSON. */
  readonly body: Readonly<Record<string, unknown>>;
}

export interface Request {
  /** Default: the root key. Null: none. */
  readonly key?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly form?: string;
  readonly address?: string;
}

export interface ScratchService {
  readonly app: FastifyInstance;
  readonly auth: PantheonAuth;
  readonly config: Config;
  readonly rootKey: string;
  /** Every line that was logged. */
  readonly log: string[];
  call(method: Method, url: string, request?: Request): Promise<Answer>;
  /** In the tenant `default` unless told otherwise. */
  create(input?: Partial<CreateKeyInput>, tenant?: string): Promise<CreatedKey>;
  close(): Promise<void>;
}

/** Every setting but these is as it is without any. */
export async function openScratchService(flags: Flags = {}): Promise<ScratchService> {
  const dataDir = mkdtempSync(join(tmpdir(), 'pantheon-auth-server-'));
  const isScaledOut = flags.DATABASE_URL?.startsWith('postgres') === true;
  const masterKey = isScaledOut ? { MASTER_KEY: randomBytes(32).toString('hex') } : {};
  const { config } = loadConfig({ DATA_DIR: dataDir, LOG_LEVEL: 'trace', ...masterKey, ...flags }, {}, dataDir);
  const log: string[] = [];
  const logger = createLogger(config.logLevel, { write: (line) => void log.push(line) });
  if (isScaledOut) await migrateStore(config, logger);
  const service = await openService(config, logger);
  const { auth } = service;
  if (isScaledOut) await auth.bootstrap(rootKeyStore(config.rootKeyFile));
  const app = await createApp({ auth, config, logger });
  const rootKey = readFileSync(config.rootKeyFile, 'latin1').trim();
  return {
    app,
    auth,
    config,
    rootKey,
    log,
    call: async (method, url, request = {}) => {
      const response = await app.inject({ method, url, ...toInjected(request, rootKey) });
      const isJson = String(response.headers['content-type']).includes('json');
      const headers = Object.entries(response.headers).map(([name, value]) => [name, String(value)]);
      return {
        status: response.statusCode,
        headers: Object.fromEntries(headers) as Record<string, string>,
        text: response.body,
        body: (isJson && response.body !== '' ? JSON.parse(response.body) : {}) as Record<string, unknown>,
      };
    },
    create: (input = {}, tenant = 'default') =>
      auth.tenant(tenant).keys.create({ userId: 'user-1', name: 'a key', ...input }),
    close: async () => {
      await app.close();
      await service.close();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

function toInjected(request: Request, rootKey: string): Pick<InjectOptions, 'headers' | 'payload' | 'remoteAddress'> {
  const { key = rootKey, body, form, address, headers = {} } = request;
  const type = form === undefined ? 'application/json' : 'application/x-www-form-urlencoded';
  const payload = form ?? (typeof body === 'string' || body === undefined ? body : JSON.stringify(body));
  return {
    headers: {
      ...(key !== null && { authorization: `Bearer ${key}` }),
      ...(payload !== undefined && { 'content-type': type }),
      ...headers,
    },
    ...(payload !== undefined && { payload }),
    ...(address !== undefined && { remoteAddress: address }),
  };
}
