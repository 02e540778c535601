/** A client of the service that writes down what it asks and what it is told. */
import { request } from 'node:http';
import type { FinalState } from './check-history.ts';
import type { ChangeKind, History, Operation, Outcome } from './history.ts';
import type { ServiceNode } from './nodes.ts';

/** Longer than any fault lasts, so that a request that meets one is answered and not given up. */
const ANSWER_MAX_MS = 8_000;
/** As many as the service gives in one page. */
const PAGE_ITEMS = 100;
/** So that the secret before a rotation works for as long as a test runs. */
const OVERLAP = '1h';

/** A key that this test made. */
export interface TestKey {
  readonly id: string;
  /** Every string that is accepted for it, oldest first. */
  readonly secrets: string[];
}

export interface KeyBody {
  readonly rateLimits?: readonly { readonly name: string; readonly limit: number; readonly window: string }[];
  readonly quota?: { readonly limit: number; readonly period: 'day' | 'month' };
  readonly permissions?: readonly string[];
}

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface ClientOptions {
  readonly name: string;
  readonly history: History;
  /** What it shows for itself. */
  readonly credential: string;
}

export class FaultClient {
  readonly history: History;
  readonly #name: string;
  readonly #credential: string;

  constructor({ name, history, credential }: ClientOptions) {
    this.history = history;
    this.#name = name;
    this.#credential = credential;
  }

  /** May this key act now? `degraded`: the node counts limits for itself. */
  async verify(
    node: ServiceNode,
    key: TestKey,
    secret: string = newest(key),
  ): Promise<Operation & { readonly degraded: boolean }> {
    const end = this.#begin(node, 'verify', key.id);
    const answer = await this.#ask(node, 'POST', '/v1/keys/verify', { key: secret });
    const { valid, code, degraded } = answer?.body ?? {};
    const verdict: Outcome = valid === true ? { kind: 'yes' } : { kind: 'no', code: String(code) };
    return { ...end(answer?.status === 200 ? verdict : failure(answer)), degraded: degraded === true };
  }

  /** Null: it was not acknowledged. */
  async create(node: ServiceNode, name: string, body: KeyBody = {}): Promise<TestKey | null> {
    const end = this.#begin(node, 'create', '');
    const answer = await this.#ask(node, 'POST', '/v1/keys', { userId: 'fault-test', name, ...body });
    if (answer?.status !== 201) {
      end(failure(answer));
      return null;
    }
    const { key, apiKey } = answer.body as { readonly key: string; readonly apiKey: { readonly id: string } };
    end({ kind: 'done' }, { keyId: apiKey.id });
    return { id: apiKey.id, secrets: [key] };
  }

  revoke(node: ServiceNode, key: TestKey, options: { readonly settle?: boolean } = {}): Promise<Operation> {
    return this.#change(node, 'revoke', key, options.settle === true);
  }

  suspend(node: ServiceNode, key: TestKey): Promise<Operation> {
    return this.#change(node, 'suspend', key);
  }

  resume(node: ServiceNode, key: TestKey): Promise<Operation> {
    return this.#change(node, 'resume', key);
  }

  /** The new secret is added to the key when it is acknowledged. */
  async rotate(node: ServiceNode, key: TestKey): Promise<Operation> {
    const end = this.#begin(node, 'rotate', key.id);
    const answer = await this.#ask(node, 'POST', `/v1/keys/${key.id}/rotate`, { overlap: OVERLAP });
    if (answer?.status !== 201) return end(failure(answer));
    const done = end({ kind: 'done' });
    key.secrets.push(String(answer.body['key']));
    return done;
  }

  async #change(node: ServiceNode, op: ChangeKind, key: TestKey, settle: boolean = false): Promise<Operation> {
    const end = this.#begin(node, op, key.id);
    const answer = await this.#ask(node, 'POST', `/v1/keys/${key.id}/${op}${settle ? '?settle=true' : ''}`, {});
    // A node that is stopping answers without it.
    const settled = answer?.body['settledAt'] !== undefined;
    return end(answer?.status === 200 ? { kind: 'done' } : failure(answer), { settled });
  }

  /** How this node tells every key that the test has made; one that it does not tell is `missing`. */
  async finalStates(node: ServiceNode, keyIds: ReadonlySet<string>): Promise<readonly FinalState[]> {
    const states = new Map<string, FinalState>();
    let cursor: string | null = null;
    do {
      const page: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const answer = await this.#ask(node, 'GET', `/v1/keys?userId=fault-test&limit=${PAGE_ITEMS}${page}`);
      if (answer?.status !== 200) throw new Error(`${node.name} does not list keys: ${JSON.stringify(answer)}`);
      const { items, nextCursor } = answer.body as unknown as KeyPage;
      for (const { id, state, version } of items) states.set(id, { node: node.name, keyId: id, state, version });
      cursor = nextCursor;
    } while (cursor !== null);
    return [...keyIds].map(
      (keyId) => states.get(keyId) ?? { node: node.name, keyId, state: 'missing' as const, version: 0 },
    );
  }

  /** How often the service says that this key was used, by outcome. */
  async usage(node: ServiceNode, keyId: string): Promise<Readonly<Record<string, number>>> {
    const answer = await this.#ask(node, 'GET', `/v1/keys/${keyId}/usage?granularity=hour`);
    if (answer?.status !== 200) throw new Error(`${node.name} tells no usage: ${JSON.stringify(answer)}`);
    const { items } = answer.body as unknown as UsageReport;
    const total: Record<string, number> = {};
    for (const { outcomes } of items) {
      for (const [outcome, count] of Object.entries(outcomes)) total[outcome] = (total[outcome] ?? 0) + count;
    }
    return total;
  }

  #begin(node: ServiceNode, op: Operation['op'], keyId: string) {
    return this.history.begin({ client: this.#name, node: node.name, op, keyId });
  }

  /** Null: there was no answer. */
  #ask(node: ServiceNode, method: 'GET' | 'POST', path: string, body?: unknown): Promise<Answer | null> {
    return new Promise((resolve) => {
      const payload = body === undefined ? null : JSON.stringify(body);
      const asked = request({
        host: '127.0.0.1',
        port: node.port,
        agent: node.agent,
        method,
        path,
        headers: {
          authorization: `Bearer ${this.#credential}`,
          ...(payload !== null && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
        },
      });
      const timer = setTimeout(() => asked.destroy(new Error('there was no answer in time')), ANSWER_MAX_MS);
      const settle = (answer: Answer | null) => {
        clearTimeout(timer);
        resolve(answer);
      };
      asked.on('error', () => settle(null));
      asked.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', () => settle(null));
        response.on('end', () => settle(toAnswer(response.statusCode ?? 0, Buffer.concat(chunks).toString('utf8'))));
      });
      asked.end(payload);
    });
  }
}

interface KeyPage {
  readonly items: readonly {
    readonly id: string;
    readonly state: 'active' | 'suspended' | 'revoked';
    readonly version: number;
  }[];
  readonly nextCursor: string | null;
}

interface UsageReport {
  readonly items: readonly { readonly outcomes: Readonly<Record<string, number>> }[];
}

/** The string that its holder uses now. */
export function newest(key: TestKey): string {
  const secret = key.secrets.at(-1);
  if (secret === undefined) throw new Error('A key has a secret.');
  return secret;
}

/** Null: it is not JSON, as when a process ends in the middle of it. */
function toAnswer(status: number, text: string): Answer | null {
  try {
    return { status, body: JSON.parse(text) as Readonly<Record<string, unknown>> };
  } catch {
    return null;
  }
}

/** What an answer means that is not the one that was asked for. 5xx other than 503 are not answers either. */
function failure(answer: Answer | null): Outcome {
  if (answer === null) return { kind: 'unknown' };
  const code = String(answer.body['code']);
  if (answer.status === 503) return { kind: 'unavailable', code };
  if (answer.status >= 500) throw new Error(`the service answered ${answer.status} ${code}`);
  return { kind: 'refused', status: answer.status, code };
}
