/** A client that goes away takes its work with it. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { PantheonAuth } from 'pantheon-auth';
import { expect, test } from 'vitest';
import { createApp } from '../src/app.ts';
import { createLogger } from '../src/http/logging.ts';
import { openScratchService } from './scratch-service.ts';

test.each(['/v1/keys?q=x', '/v1/usage', '/v1/keys/some-id/usage', '/v1/events'])(
  'reading %s ends when the client has disconnected, and no error is logged',
  async (path) => {
    const service = await openScratchService();
    const signals: AbortSignal[] = [];
    let onAsked = (): void => {};
    const asked = new Promise<void>((resolve) => {
      onAsked = resolve;
    });
    /** Reads for as long as it may. */
    const read = async (signal: AbortSignal | undefined): Promise<never> => {
      if (signal === undefined) throw new Error('There is no signal.');
      signals.push(signal);
      onAsked();
      if (!signal.aborted) await once(signal, 'abort');
      throw signal.reason;
    };
    const keys = {
      list: (_filter: unknown, options: { signal?: AbortSignal }) => read(options.signal),
      usage: (_id: unknown, _range: unknown, options: { signal?: AbortSignal }) => read(options.signal),
    };
    const auth = {
      ...service.auth,
      tenant: () => ({ keys }),
      events: {
        list: (_tenant: unknown, _filter: unknown, options: { signal?: AbortSignal }) => read(options.signal),
      },
    } as unknown as PantheonAuth;
    const lines: string[] = [];
    const logger = createLogger('info', { write: (line) => void lines.push(line) });
    const app = await createApp({ auth, config: service.config, logger });
    await app.listen({ port: 0, host: '127.0.0.1' });
    const { port } = app.server.address() as AddressInfo;

    const client = new AbortController();
    const response = fetch(`http://127.0.0.1:${port}${path}`, {
      headers: { authorization: `Bearer ${service.rootKey}`, 'pantheon-tenant': 'default' },
      signal: client.signal,
    });
    response.catch(() => {});
    await asked;
    expect(signals[0]?.aborted).toBe(false);
    client.abort();
    await expect.poll(() => signals[0]?.aborted).toBe(true);
    await expect(response).rejects.toThrow();
    await new Promise((resolve) => setTimeout(resolve, 20)); // What would be logged is logged in this turn or the next.
    expect(lines.filter((line) => /a request failed/.test(line))).toEqual([]);
    await app.close();
    await service.close();
  },
);
