/** How the first administrator comes to be, and how one is made when every string of an administrator is lost. */
import { PantheonError } from '../foundation/errors.ts';
import type { APIKey } from './api-key.ts';
import type { IdTags } from './id-tags.ts';
import { generatedFrom, generateKey, type TaggedKey } from './key-generator.ts';
import type { KeyManager } from './key-manager.ts';

/** Where the first administrator's key string is kept: the caller's business. */
export interface RootKeyStore {
  /** What was written before, by a start that did not finish or by another process; null: nothing. */
  read(): string | null;
  /** Must be durable when it returns. Throws rather than replace what is there: it may be the only copy. */
  write(key: string): void;
}

/** What a root key is made with. */
interface RootKeyDeps {
  readonly keys: KeyManager;
  readonly store: RootKeyStore;
  readonly idTags: IdTags;
  readonly keyPrefix: string;
}

/**
 * The string is written before the key exists. A start that is cut off in between finds it there and goes on with it, so
 * there is never an administrator whose key nobody has.
 */
export async function makeRoot(deps: RootKeyDeps): Promise<APIKey | null> {
  try {
    return await deps.keys.createRoot(rootKey(deps), 'first');
  } catch (error) {
    // Another process starts at the same moment and was first, with the same string or with one of its own.
    if (error instanceof PantheonError && error.code === 'conflict') return null;
    throw error;
  }
}

/** What is written in the store is not taken: it is the key that was lost, or somebody else's. */
export async function recoverRoot(deps: RootKeyDeps): Promise<APIKey> {
  const made = newRootKey(deps);
  deps.store.write(made.generated.key);
  return deps.keys.createRoot(made, 'recovered');
}

function rootKey(deps: RootKeyDeps): TaggedKey {
  const written = writtenKey(deps);
  if (written !== null) return written;
  const made = newRootKey(deps);
  try {
    deps.store.write(made.generated.key);
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

/** Null also for a key of another store: the tag of its id is not one of ours, so it could never be found here. */
function writtenKey({ store, idTags, keyPrefix }: RootKeyDeps): TaggedKey | null {
  const written = store.read();
  const generated = written === null ? null : generatedFrom(written.trim(), keyPrefix);
  const idTag = generated === null ? null : idTags.numberOf(generated.id);
  return generated === null || idTag === null ? null : { generated, idTag };
}
