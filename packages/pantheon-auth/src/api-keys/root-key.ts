/** How the first administrator comes to be, and how one is made when every string of an administrator is lost. */
import { PantheonError } from '../foundation/errors.ts';
import type { APIKey } from './api-key.ts';
import { type GeneratedKey, generatedFrom, generateKey } from './key-generator.ts';
import type { KeyManager } from './key-manager.ts';

/** Where the first administrator's key string is kept: the caller's business. */
export interface RootKeyStore {
  /** What was written before, by a start that did not finish or by another process; null: nothing. */
  read(): string | null;
  /** Must be durable when it returns. Throws rather than replace what is there: it may be the only copy. */
  write(key: string): void;
}

/**
 * The string is written before the key exists. A start that is cut off in between finds it there and goes on with it, so
 * there is never an administrator whose key nobody has.
 */
export async function makeRoot(keys: KeyManager, store: RootKeyStore, brand: string): Promise<APIKey | null> {
  try {
    return await keys.createRoot(rootKey(store, brand), 'first');
  } catch (error) {
    // Another process starts at the same moment and was first, with the same string or with one of its own.
    if (error instanceof PantheonError && error.code === 'conflict') return null;
    throw error;
  }
}

/** What is written in the store is not taken: it is the key that was lost, or somebody else's. */
export async function recoverRoot(keys: KeyManager, store: RootKeyStore, brand: string): Promise<APIKey> {
  const generated = generateKey({ brand, environment: 'live' });
  store.write(generated.key);
  return keys.createRoot(generated, 'recovered');
}

function rootKey(store: RootKeyStore, brand: string): GeneratedKey {
  const written = writtenKey(store, brand);
  if (written !== null) return written;
  const generated = generateKey({ brand, environment: 'live' });
  try {
    store.write(generated.key);
    return generated;
  } catch (error) {
    const first = writtenKey(store, brand);
    if (first === null) throw error;
    return first;
  }
}

function writtenKey(store: RootKeyStore, brand: string): GeneratedKey | null {
  const written = store.read();
  return written === null ? null : generatedFrom(written.trim(), brand);
}
