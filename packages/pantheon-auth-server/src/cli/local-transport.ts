/**
 * The API on the data folder of this machine, beside a server that may be running on it: the same routes, asked in this
 * process. Whoever can read the folder holds the root key, and is asked for a key all the same: so a local command may do
 * what its key may, is recorded under it, and behaves as over the network.
 */
import { existsSync } from 'node:fs';
import type { FastifyInstance, InjectOptions } from 'fastify';
import { type PantheonAuth, PantheonError } from 'pantheon-auth';
import { createApp } from '../app.ts';
import type { Config } from '../config.ts';
import { createLogger } from '../logging.ts';
import { openService } from '../open.ts';
import { parseBody } from './remote-transport.ts';
import { type ApiRequest, type ApiResponse, type Credential, type Transport, toTarget, toWire } from './transport.ts';

export interface LocalTransportOptions {
  readonly config: Config;
  readonly callerKey: () => Promise<Credential>;
  /** What the operator of the folder should hear. */
  readonly onWarning: (warning: string) => void;
}

export class LocalTransport implements Transport {
  readonly engine: PantheonAuth;
  readonly #app: FastifyInstance;
  readonly #callerKey: () => Promise<Credential>;
  readonly #closeService: () => Promise<void>;

  private constructor(parts: {
    readonly engine: PantheonAuth;
    readonly app: FastifyInstance;
    readonly callerKey: () => Promise<Credential>;
    readonly closeService: () => Promise<void>;
  }) {
    this.engine = parts.engine;
    this.#app = parts.app;
    this.#callerKey = parts.callerKey;
    this.#closeService = parts.closeService;
  }

  /** @throws PantheonError startup codes. A folder without a database is a mistyped one: nothing is made in it. */
  static async open({ config, callerKey, onWarning }: LocalTransportOptions): Promise<LocalTransport> {
    if (!existsSync(config.databaseFile)) {
      throw new PantheonError('store_unusable', {
        field: 'DATA_DIR',
        detail: `There is no database ${config.databaseFile}: start the server once, or name another folder or a --url`,
      });
    }
    // Requests are answered to the user; of the log only what the operator of the folder should hear is said.
    const logger = createLogger('error', { write: (line) => onWarning(messageOf(line)) });
    const service = await openService(config, logger);
    const app = await createApp({ auth: service.auth, config: { ...config, docs: false }, logger });
    return new LocalTransport({ engine: service.auth, app, callerKey, closeService: () => service.close() });
  }

  async request(method: string, path: string, request: ApiRequest = {}): Promise<ApiResponse> {
    const { headers, payload } = toWire(request, request.credential ?? (await this.#callerKey()));
    const response = await this.#app.inject({
      method: method as NonNullable<InjectOptions['method']>,
      url: toTarget(path, request.query),
      headers,
      ...(payload !== undefined && { payload }),
    });
    const fields = Object.entries(response.headers).map(([name, value]) => [name, value?.toString()]);
    return { status: response.statusCode, headers: Object.fromEntries(fields), body: parseBody(response.body) };
  }

  async close(): Promise<void> {
    await this.#app.close();
    await this.#closeService();
  }
}

function messageOf(line: string): string {
  const entry = parseBody(line);
  const message = typeof entry === 'object' && entry !== null && 'msg' in entry ? entry.msg : null;
  return typeof message === 'string' ? message : 'something was logged that cannot be read';
}
