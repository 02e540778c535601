/**
 * The API on the database of the settings (SQLite in the data folder, or PostgreSQL), in this process, also while
 * servers run on it. Whoever has the settings could decrypt everything, but a key is required anyway, so that a local
 * command has the permissions of its key, is recorded under it, and behaves as over the network.
 */
import { existsSync } from 'node:fs';
import type { FastifyInstance, InjectOptions } from 'fastify';
import { type PantheonAuth, PantheonError } from 'pantheon-auth';
import { createApp } from '../app.ts';
import { openService } from '../service/open.ts';
import type { Config } from '../settings/config.ts';
import { createCommandLog } from './command-log.ts';
import { parseBody } from './remote-transport.ts';
import { type ApiRequest, type ApiResponse, type Credential, type Transport, toTarget, toWire } from './transport.ts';

export interface LocalTransportOptions {
  readonly config: Config;
  readonly callerKey: () => Promise<Credential>;
  /** Called with warnings for the operator. */
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

  /** @throws PantheonError startup codes; also when the folder has no database, which is then not created. */
  static async open({ config, callerKey, onWarning }: LocalTransportOptions): Promise<LocalTransport> {
    const { database } = config;
    if (database.kind === 'sqlite' && !existsSync(database.file)) {
      throw new PantheonError('store_unusable', {
        field: 'DATA_DIR',
        detail: `There is no database ${database.file}: start the server once, or name another folder or a --url`,
      });
    }
    const logger = createCommandLog(onWarning);
    const service = await openService(config, logger, 'command');
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
