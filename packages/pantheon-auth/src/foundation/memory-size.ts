/**
 * About how many bytes a value takes in memory, so that caches can be bounded by it. The numbers are those of V8 on 64 bits
 * with pointers of 8 bytes, rounded up: what is said here is seldom less than what is taken.
 */
import { getHeapStatistics } from 'node:v8';

const OBJECT_BYTES = 56;
const SLOT_BYTES = 8;
const STRING_BYTES = 24;
const NUMBER_BYTES = 16;
/** The object, its ArrayBuffer and the backing store of that. */
const BUFFER_BYTES = 240;
/** A level that nothing of ours reaches: what is deeper was built to be. */
const DEPTH_MAX = 16;

/** Of plain data: strings, numbers, lists, objects without methods, buffers. What is shared is counted each time. */
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
  // The names of a shape are shared, those of a dictionary are not: counted as if none were.
  for (const [name, item] of Object.entries(value))
    bytes += SLOT_BYTES + STRING_BYTES + name.length + memoryOf(item, depth + 1);
  return bytes;
}

/** V8 keeps two bytes for each unit of a string in which any is beyond Latin-1. */
function isLatin1(text: string): boolean {
  return !/[\u0100-\uffff]/.test(text);
}

/** How much memory each cache may take. */
export interface CacheBounds {
  readonly knownKeysBytesMax: number;
  readonly countersBytesMax: number;
  readonly seenTokensBytesMax: number;
}

/** What all caches of a process take at most, on a heap of any size. */
const CACHES_BYTES_MAX: number = 512 * 1_024 * 1_024;
/** Of the heap: what is accounted is an estimate, and garbage and everything else need the rest. */
const CACHES_SHARE_OF_HEAP = 1 / 3;
/** Of all caches. A little is left for what is small: unknown ids, senders that fail, data keys. */
const SHARES = { knownKeys: 0.4, counters: 0.4, seenTokens: 0.15 } as const;

/** The bounds inside `bytesMax`; when nobody says, inside a part of the heap that this process was given. */
export function cacheBounds(bytesMax: number = cachesBytesDefault()): CacheBounds {
  return {
    knownKeysBytesMax: Math.floor(bytesMax * SHARES.knownKeys),
    countersBytesMax: Math.floor(bytesMax * SHARES.counters),
    seenTokensBytesMax: Math.floor(bytesMax * SHARES.seenTokens),
  };
}

function cachesBytesDefault(): number {
  return Math.min(CACHES_BYTES_MAX, Math.floor(getHeapStatistics().heap_size_limit * CACHES_SHARE_OF_HEAP));
}
