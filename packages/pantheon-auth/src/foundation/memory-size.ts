/**
 * Estimates the memory of a value, so that caches and queues can be bounded in bytes. The numbers are those of V8 on 64-bit
 * machines with 8-byte pointers, rounded up, so the estimate is rarely too low.
 */
import { getHeapStatistics } from 'node:v8';

const OBJECT_BYTES = 56;
const SLOT_BYTES = 8;
const STRING_BYTES = 24;
const NUMBER_BYTES = 16;
/** The object, its ArrayBuffer and the backing store of that. */
const BUFFER_BYTES = 240;
/** Deeper than any value of this library. */
const DEPTH_MAX = 16;

/**
 * The estimate for plain data: strings, numbers, lists, plain objects, buffers. Shared values are counted each time
 * they occur.
 */
export function memoryOf(value: unknown, depth = 0): number {
  if (typeof value === 'string') return STRING_BYTES + (isLatin1(value) ? value.length : 2 * value.length);
  if (typeof value === 'number') return NUMBER_BYTES;
  if (typeof value !== 'object' || value === null || depth > DEPTH_MAX) return SLOT_BYTES;
  if (ArrayBuffer.isView(value)) return BUFFER_BYTES + value.byteLength;
  let bytes = OBJECT_BYTES;
  if (Array.isArray(value)) {
    for (const item of value) bytes += SLOT_BYTES + memoryOf(item, depth + 1);
    return bytes;
  }
  // V8 shares the property names of objects with the same shape, but not of dictionaries. They are counted as not
  // shared.
  for (const [name, item] of Object.entries(value))
    bytes += SLOT_BYTES + STRING_BYTES + name.length + memoryOf(item, depth + 1);
  return bytes;
}

/** V8 uses two bytes per code unit if any of them is beyond Latin-1. */
function isLatin1(text: string): boolean {
  return !/[\u0100-\uffff]/.test(text);
}

/** How much memory each cache may take. */
export interface CacheBounds {
  readonly knownKeysBytesMax: number;
  readonly countersBytesMax: number;
  readonly seenTokensBytesMax: number;
}

/** The most memory of all caches of a process together. */
const CACHES_BYTES_MAX: number = 512 * 1_024 * 1_024;
/** The share of the heap for caches. The sizes are estimates, and garbage and everything else need the rest. */
const CACHES_SHARE_OF_HEAP = 1 / 3;
/** Shares of the memory for caches. The rest is for small ones: unknown ids, failing senders, data keys. */
const SHARES = { knownKeys: 0.4, counters: 0.4, seenTokens: 0.15 } as const;

/** The bounds of each cache within `bytesMax`. Default: a share of the heap limit of this process. */
export function cacheBounds(bytesMax: number = cachesBytesDefault()): CacheBounds {
  return {
    knownKeysBytesMax: Math.floor(bytesMax * SHARES.knownKeys),
    countersBytesMax: Math.floor(bytesMax * SHARES.counters),
    seenTokensBytesMax: Math.floor(bytesMax * SHARES.seenTokens),
  };
}

function cachesBytesDefault(): number {
  return partOfHeap(CACHES_SHARE_OF_HEAP, CACHES_BYTES_MAX);
}

/** The most memory of waiting writes, with what their requests hold, for any heap size. */
const WAITING_WRITES_BYTES_MAX: number = 256 * 1_024 * 1_024;
const WAITING_WRITES_SHARE_OF_HEAP = 1 / 8;

/** The most memory that waiting writes may take. */
export function waitingWritesBytesMax(): number {
  return partOfHeap(WAITING_WRITES_SHARE_OF_HEAP, WAITING_WRITES_BYTES_MAX);
}

function partOfHeap(share: number, bytesMax: number): number {
  return Math.min(bytesMax, Math.floor(getHeapStatistics().heap_size_limit * share));
}
