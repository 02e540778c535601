/**
 * The data keys of tenants: creates them on first use, unwraps each once and caches it, and replaces them in time. The
 * format of sealed values is in `envelope.ts`.
 */
import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { type Clock, DAY_MS, type Instant } from '../foundation/clock.ts';
import { PantheonError } from '../foundation/errors.ts';
import { newId } from '../foundation/ids.ts';
import { GCM_KEY_BYTES } from './aes-gcm.ts';
import type { DataKeyRows, KeyEncryption, StoredDataKey } from './key-encryption.ts';

/**
 * The most seals under one data key. SP 800-38D allows 2³² with random IVs; at 2²⁸ the probability of a repeated IV,
 * which would reveal the key stream, is 2⁻⁴¹.
 */
export const DATA_KEY_SEALS_MAX: number = 2 ** 28;
/** Limits what a leaked data key opens to three months of data; SP 800-57 allows two years. */
export const DATA_KEY_AGE_MAX_MS: number = 90 * DAY_MS;
/**
 * Seals are counted in the database in blocks before they are used, so the database is written once per block, and a
 * crash wastes at most one block and never counts too few. It divides {@link DATA_KEY_SEALS_MAX}.
 */
export const SEALS_PER_BLOCK = 4_096;
/**
 * The most cached data keys, and tenants with a block of seals. About 1 kB each; an evicted one costs one read and one
 * unwrap.
 */
export const DATA_KEYS_CACHED_MAX = 10_000;
/** A new data key lasts long, so several replacements in one refill mean that a row or a clock is wrong. */
const REPLACEMENTS_MAX = 3;

export interface DataKeysDeps {
  readonly kms: KeyEncryption;
  readonly rows: DataKeyRows;
  readonly clock: Clock;
}

/** An unwrapped data key. */
export interface DataKey {
  readonly id: string;
  readonly tenantId: string;
  readonly key: KeyObject;
}

/** A data key with the remaining seals of a block. */
interface SealingBlock {
  readonly dataKey: DataKey;
  readonly replaceAt: Instant;
  sealsLeft: number;
}

export class DataKeys {
  readonly #deps: DataKeysDeps;
  readonly #opened = new LRUCache<string, DataKey>({ max: DATA_KEYS_CACHED_MAX });
  readonly #blocks = new LRUCache<string, SealingBlock>({ max: DATA_KEYS_CACHED_MAX });
  // One entry per data key or tenant that callers wait for, so bounded by the number of callers.
  readonly #opening = new Map<string, Promise<DataKey | null>>();
  readonly #refilling = new Map<string, Promise<SealingBlock>>();

  constructor(deps: DataKeysDeps) {
    this.#deps = deps;
  }

  /**
   * The data key of this id, or null when there is none.
   *
   * @throws PantheonError `master_key_mismatch` when it does not unwrap; whatever the store or the KMS throws otherwise.
   */
  async byId(id: string): Promise<DataKey | null> {
    return (
      this.#opened.get(id) ??
      (await singleFlight(this.#opening, id, async () => {
        const stored = await this.#deps.rows.byId(id);
        return stored === null ? null : await this.#open({ ...stored, id });
      }))
    );
  }

  /**
   * The active data key of this tenant, counting one seal.
   *
   * @throws PantheonError `master_key_mismatch` when it does not unwrap; whatever the store or the KMS throws
   * otherwise.
   */
  async forOneSeal(tenantId: string): Promise<DataKey> {
    let block = this.#blocks.get(tenantId);
    while (block === undefined || block.sealsLeft === 0 || this.#deps.clock.now() >= block.replaceAt) {
      block = await singleFlight(this.#refilling, tenantId, () => this.#refill(tenantId));
    }
    block.sealsLeft -= 1;
    return block.dataKey;
  }

  /** Takes a block of seals from the tenant's active data key, and creates or replaces the data key if needed. */
  async #refill(tenantId: string): Promise<SealingBlock> {
    const { rows } = this.#deps;
    let stored = await rows.active(tenantId);
    for (let replacements = 0; replacements <= REPLACEMENTS_MAX; replacements += 1) {
      if (stored === null || this.#isDue(stored)) stored = await this.#make(tenantId, stored?.id ?? null);
      // Unwrapped with this tenant's id, so a row moved here from another tenant cannot be unwrapped.
      const dataKey: DataKey = this.#opened.get(stored.id) ?? (await this.#open({ ...stored, tenantId }));
      if (dataKey.tenantId !== tenantId) throw mismatch(stored.id, 'is of another tenant');
      const handedOut = await rows.takeSeals(stored.id, SEALS_PER_BLOCK);
      if (handedOut <= DATA_KEY_SEALS_MAX) {
        const replaceAt = stored.createdAt + DATA_KEY_AGE_MAX_MS;
        const block = { dataKey, replaceAt, sealsLeft: SEALS_PER_BLOCK };
        this.#blocks.set(tenantId, block);
        return block;
      }
      stored = { ...stored, seals: handedOut };
    }
    throw new PantheonError('store_unavailable', {
      detail: `tenant ${tenantId} gets no data key that may still seal: compare the clocks and the rows of its data keys`,
    });
  }

  #isDue(stored: StoredDataKey): boolean {
    const isOld = this.#deps.clock.now() >= stored.createdAt + DATA_KEY_AGE_MAX_MS;
    return isOld || stored.seals + SEALS_PER_BLOCK > DATA_KEY_SEALS_MAX;
  }

  async #make(tenantId: string, replaces: string | null): Promise<StoredDataKey> {
    const { kms, rows, clock } = this.#deps;
    const id = newId();
    const bytes = randomBytes(GCM_KEY_BYTES);
    const wrapped = await kms.wrap(bytes, { dataKeyId: id, tenantId });
    const made = { id, tenantId, wrapped, createdAt: clock.now(), retiredAt: null, seals: 0 };
    const active = await rows.add(made, replaces);
    if (active.id === id) this.#keep(id, tenantId, bytes);
    bytes.fill(0);
    return active;
  }

  async #open(stored: StoredDataKey): Promise<DataKey> {
    const { id, tenantId, wrapped } = stored;
    const bytes = await this.#deps.kms.unwrap(wrapped, { dataKeyId: id, tenantId });
    if (bytes.length !== GCM_KEY_BYTES) throw mismatch(id, 'unwraps to a wrong length');
    return this.#keep(id, tenantId, bytes);
  }

  /** Kept as a KeyObject, which copies the bytes and prints none of them. */
  #keep(id: string, tenantId: string, bytes: Buffer): DataKey {
    const dataKey = { id, tenantId, key: createSecretKey(bytes) };
    this.#opened.set(id, dataKey);
    return dataKey;
  }
}

function mismatch(id: string, what: string): PantheonError {
  return new PantheonError('master_key_mismatch', { detail: `data key ${id} ${what}` });
}

/** Callers who ask for the same thing at the same time wait for one answer. A failure is theirs and is not kept. */
function singleFlight<T>(running: Map<string, Promise<T>>, name: string, start: () => Promise<T>): Promise<T> {
  const joined = running.get(name);
  if (joined !== undefined) return joined;
  const started = start().finally(() => running.delete(name));
  running.set(name, started);
  return started;
}
