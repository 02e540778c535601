/**
 * Reads keys, lists of keys and usage reports. Every read waits in turn by tenant and caller, and is shown only to a caller
 * that may still act; long reads end when the caller aborts.
 */
import { type Page, pageSize } from '../commands/pages.ts';
import type { AppTypes } from '../domain/app-types.ts';
import { type Action, assertMay, type Caller } from '../domain/key-policy.ts';
import type { ShownReads } from '../domain/reader.ts';
import type { Clock } from '../foundation/clock.ts';
import { assertFilters } from '../foundation/filters.ts';
import { inTurns } from '../foundation/turns.ts';
import type { SealedCursors } from '../kms/sealed-cursor.ts';
import type { UsageQueryService, UsageReport, UsageRequest } from '../usage/usage-query.ts';
import type { StoredKey } from '../verification/stored-key.ts';
import { type APIKey, type APIKeyVersion, toApiKey, toApiKeyVersion } from './api-key.ts';
import type { KeyChanges } from './key-changes.ts';
import type { KeyListQuery, KeyPlace } from './key-rows.ts';
import type { KeyStorage, QuarantinedKey } from './key-storage.ts';
import type { UsageReader } from './usage-reader.ts';

export interface KeyFilter {
  readonly userId?: string;
  readonly state?: 'active' | 'suspended' | 'revoked' | 'expired';
  readonly environment?: 'live' | 'test';
  /** Part of the name, or the beginning of an id. */
  readonly q?: string;
  readonly cursor?: string;
  /** Default 50, at most {@link PAGE_MAX}. */
  readonly limit?: number;
}

const FILTERS: ReadonlySet<keyof KeyFilter> = new Set([
  ...(['userId', 'state', 'environment', 'q', 'cursor', 'limit'] as const),
]);

/** One or two milliseconds, also for large keys. */
const SHOWN_PER_TURN = 20;

/** The caller of a read, and its abort signal. */
export interface Reading {
  readonly by: Caller;
  readonly signal: AbortSignal | undefined;
}

export interface KeyListsDeps {
  readonly changes: KeyChanges;
  readonly storage: KeyStorage;
  readonly usage: UsageReader;
  readonly usageReports: UsageQueryService;
  readonly cursors: SealedCursors;
  readonly shownReads: ShownReads;
  readonly clock: Clock;
  readonly keyPrefix: string;
}

export class KeyLists<App extends AppTypes = AppTypes> {
  readonly #deps: KeyListsDeps;
  readonly #tenantId: string;

  constructor(deps: KeyListsDeps, tenantId: string) {
    this.#deps = deps;
    this.#tenantId = tenantId;
  }

  /** Newest first. A damaged key is listed as quarantined. */
  async list(filter: KeyFilter, { by, signal }: Reading): Promise<Page<APIKey<App> | QuarantinedKey>> {
    const { storage, usage, cursors, keyPrefix, clock } = this.#deps;
    assertMay(by, 'keys.read', this.#tenantId);
    assertFilters(filter, FILTERS);
    const query = await this.#toQuery(filter);
    return this.#show({ by, signal }, async () => {
      const { items: found, next } = await storage.list(query, signal);
      const opened = found.filter((key): key is StoredKey => 'record' in key);
      const uses = await usage.totalsOf(
        this.#tenantId,
        opened.map((key) => key.record.id),
      );
      const view = { keyPrefix, now: clock.now() };
      const items = await inTurns(found, { perTurn: SHOWN_PER_TURN, signal }, (key) =>
        'record' in key ? toApiKey<App>(key.record, uses.get(key.record.id) ?? [], view) : key,
      );
      const nextCursor = next === null ? null : await cursors.write('keys', this.#tenantId, { ...next });
      return { items, nextCursor };
    });
  }

  /** `action`: null for the caller's own key. */
  async get(id: string, by: Caller, action: Action | null = 'keys.read'): Promise<APIKey<App>> {
    const { changes, usage, keyPrefix, clock } = this.#deps;
    return this.#show({ by, action }, async () => {
      const { record } = await changes.find(this.#tenantId, id);
      const used = await usage.totalOf(this.#tenantId, id);
      return toApiKey<App>(record, used, { keyPrefix, now: clock.now() });
    });
  }

  /** The versions of a key, newest first, each with its last use. */
  async versions(id: string, by: Caller): Promise<readonly APIKeyVersion[]> {
    const { changes, usage, clock } = this.#deps;
    return this.#show({ by }, async () => {
      const { record } = await changes.find(this.#tenantId, id);
      const used = await usage.ofKey(this.#tenantId, id);
      const now = clock.now();
      return record.versions.map((version) => {
        const ofVersion = used.find((one) => one.version === version.version);
        return toApiKeyVersion(version, ofVersion, now);
      });
    });
  }

  /** The usage of one key, or of all keys of the tenant. */
  report(request: Omit<UsageRequest, 'tenantId'>, reading: Reading): Promise<UsageReport> {
    const asked = { ...request, tenantId: this.#tenantId };
    return this.#show(reading, async () => {
      if (request.keyId !== null) await this.#deps.changes.find(this.#tenantId, request.keyId);
      return this.#deps.usageReports.report(asked, reading.signal);
    });
  }

  #show<T>(
    reading: Partial<Reading> & Pick<Reading, 'by'> & { readonly action?: Action | null },
    read: () => Promise<T>,
  ): Promise<T> {
    return this.#deps.shownReads.run({ action: 'keys.read', ...reading, tenantId: this.#tenantId }, read);
  }

  async #toQuery(filter: KeyFilter): Promise<KeyListQuery> {
    const { userId = null, state = null, environment = null, q: text = null, cursor } = filter;
    const position = cursor === undefined ? null : await this.#deps.cursors.read('keys', this.#tenantId, cursor);
    const after = position as unknown as KeyPlace | null; // The cursor was written by this function and is sealed.
    const limit = pageSize(filter.limit);
    return { tenantId: this.#tenantId, userId, state, environment, text, after, limit, now: this.#deps.clock.now() };
  }
}
