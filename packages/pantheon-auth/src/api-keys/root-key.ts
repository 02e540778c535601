/** Creates the first administrator, or another one when every administrator key is lost. */
import { PantheonError } from '../foundation/errors.ts';
import type { APIKey } from './api-key.ts';
import type { IdTags } from './id-tags.ts';
import { generatedFrom, generateKey, type TaggedKey } from './key-generator.ts';
import type { KeyManager } from './key-manager.ts';

/** Where the key string of the first administrator is stored. Supplied by the caller. */
export interface RootKeyStore {
  /** A key string written before, by an interrupted start or by another process; null: none. */
  read(): string | null;
  /**
   * Must be durable when it returns, or when its promise resolves. Must fail instead of replacing an existing key string,
   * which may be the only copy.
   */
  write(key: string): void | Promise<void>;
}

/** Dependencies for creating a root key. */
interface RootKeyDeps {
  readonly keys: KeyManager;
  readonly store: RootKeyStore;
  readonly idTags: IdTags;
  readonly keyPrefix: string;
}

/**
 * The key string is written before the key is created. The start after an interruption continues with the written
 * string, so there is never an administrator whose key string is lost.
 */
export async function makeRoot(deps: RootKeyDeps): Promise<APIKey | null> {
  try {
    return await deps.keys.createRoot(await rootKey(deps), 'first');
  } catch (error) {
    // Another process created it at the same time, with this string or its own.
    if (error instanceof PantheonError && error.code === 'conflict') return null;
    throw error;
  }
}

/** A string already in the store is not used: it may be the lost key or another one. */
export async function recoverRoot(deps: RootKeyDeps): Promise<APIKey> {
  const made = newRootKey(deps);
  await deps.store.write(made.generated.key);
  return deps.keys.createRoot(made, 'recovered');
}

async function rootKey(deps: RootKeyDeps): Promise<TaggedKey> {
  const written = writtenKey(deps);
  if (written !== null) return written;
  const made = newRootKey(deps);
  try {
    await deps.store.write(made.generated.key);
    return made;
  } catch (error) {
    const first = writtenKey(deps);
    if (first === null) throw error;
    return first;
  }
}

function newRootKey({ idTags, keyPrefix }: RootKeyDeps): TaggedKey {
  const { id, number } = idTags.newId();
  return { generated: generateKey({ keyPrefix, environment: 'live', id }), idTag: number };
}

/** Null also for a key of another database: its id has no valid tag here, so it could never be found. */
function writtenKey({ store, idTags, keyPrefix }: RootKeyDeps): TaggedKey | null {
  const written = store.read();
  const generated = written === null ? null : generatedFrom(written.trim(), keyPrefix);
  const idTag = generated === null ? null : idTags.numberOf(generated.id);
  return generated === null || idTag === null ? null : { generated, idTag };
}
