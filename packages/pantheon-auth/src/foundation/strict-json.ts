/**
 * Parses JSON with exactly one interpretation. `JSON.parse` keeps the last of two members with one name, other parsers
 * keep the first, so two readers of one signed text may use different values; such a text is refused (RFC 8259 section
 * 4, RFC 7515 section 4). Refused as well: names that could change prototypes, nesting beyond a bound, numbers that a
 * double does not hold exactly, and strings that cannot be encoded again (lone surrogates). Every step takes linear
 * time and none recurses.
 */
import type { Json, JsonObject } from './encoding.ts';
import { isReadExactly, PLAIN_NUMBER_LENGTH_MAX } from './exact-number.ts';
import { fieldPath } from './field-path.ts';

/** Why a text was refused. `at` names the member at fault as a path, when there is one. */
export type StrictJsonResult =
  | { readonly ok: true; readonly value: Json }
  | {
      readonly ok: false;
      readonly reason: 'syntax' | 'duplicate_member' | 'forbidden_member' | 'inexact_number' | 'depth';
      readonly at?: string;
    };

/** Names with which an assignment in later code could change a prototype. */
export const FORBIDDEN_MEMBERS: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);

/**
 * Parses a JSON text and refuses ambiguous ones. A scalar has depth 0, `[]` and `{}` have depth 1.
 *
 * Duplicates are found by counting. In valid JSON every colon outside a string belongs to one member, and `JSON.parse`
 * drops a member, with its content, when its name occurs again. So fewer members in the value than colons in the text
 * mean a duplicate. `JSON.parse` unescapes the names, so this check cannot read them differently.
 */
export function parseStrictJson(text: string, bounds: { readonly depthMax: number }): StrictJsonResult {
  const counted = countMembers(text, bounds.depthMax);
  if (counted === null) return { ok: false, reason: 'depth' };

  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    return { ok: false, reason: 'syntax' };
  }

  const survey = surveyValue(value);
  if (survey.unwritable) return { ok: false, reason: 'syntax' };
  if (survey.forbidden) return refuse('forbidden_member', text);
  if (survey.memberCount !== counted.members) return refuse('duplicate_member', text);
  if (counted.hasInexactNumber) return refuse('inexact_number', text);
  return { ok: true, value };
}

/** Whether the value is an object: neither null nor an array. */
export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
/** `[` and `{` differ only in this bit, and so do `]` and `}`. */
const BRACE_BIT = 0x20;
const OPENING = 0x7b;
const CLOSING = 0x7d;

interface Counted {
  /** Colons outside strings. */
  readonly members: number;
  readonly hasInexactNumber: boolean;
}

/** Null when the text nests too deeply. Runs before the parser, which recurses. */
function countMembers(text: string, depthMax: number): Counted | null {
  let depth = 0;
  let members = 0;
  let hasInexactNumber = false;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit === QUOTE) {
      at = endOfString(text, at);
    } else if (beginsNumber(unit)) {
      const end = endOfNumber(text, at);
      if (!isExact(text, at, end)) hasInexactNumber = true;
      at = end - 1;
    } else if (unit === COLON) {
      members += 1;
    } else if ((unit | BRACE_BIT) === OPENING) {
      depth += 1;
      if (depth > depthMax) return null;
    } else if ((unit | BRACE_BIT) === CLOSING) {
      depth -= 1;
    }
  }
  return { members, hasInexactNumber };
}

/** Outside strings, only a number begins with these characters. */
function beginsNumber(unit: number): boolean {
  return unit === MINUS || (unit >= ZERO && unit <= NINE);
}

function endOfNumber(text: string, start: number): number {
  let at = start + 1;
  while (NUMBER_PARTS.has(text.charCodeAt(at))) at += 1;
  return at;
}

function isExact(text: string, start: number, end: number): boolean {
  const isPlain = end - start <= PLAIN_NUMBER_LENGTH_MAX;
  const number = text.slice(start, end);
  return (isPlain && !/[eE]/.test(number)) || isReadExactly(number);
}

const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
const NUMBER_PARTS: ReadonlySet<number> = new Set(Array.from('0123456789.eE+-', (sign) => sign.charCodeAt(0)));

/** The index at which the string that opens at `start` closes, or the end of the text. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  for (; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit === QUOTE) return at;
    if (unit === BACKSLASH) at += 1;
  }
  return at;
}

interface Survey {
  readonly memberCount: number;
  readonly forbidden: boolean;
  /** Whether it contains a string that cannot be encoded in UTF-8 (RFC 7493 section 2). */
  readonly unwritable: boolean;
}

function surveyValue(root: Json): Survey {
  let memberCount = 0;
  let forbidden = false;
  let unwritable = !isWritable(root);
  const open: Json[] = [root];
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    if (Array.isArray(value)) {
      for (const item of value as readonly Json[]) {
        if (typeof item === 'object') open.push(item);
        else if (!isWritable(item)) unwritable = true;
      }
    } else if (isJsonObject(value)) {
      const names = Object.keys(value);
      memberCount += names.length;
      for (const name of names) {
        if (FORBIDDEN_MEMBERS.has(name)) forbidden = true;
        const member = value[name] as Json;
        if (typeof member === 'object') open.push(member);
        else if (!isWritable(member)) unwritable = true;
        if (!name.isWellFormed()) unwritable = true;
      }
    }
  }
  return { memberCount, forbidden, unwritable };
}

function isWritable(value: Json): boolean {
  if (typeof value === 'string') return value.isWellFormed();
  return true;
}

interface OpenContainer {
  /** Names seen so far; null for an array. */
  readonly names: Set<string> | null;
  /** The index of the current item, for an array. */
  index: number;
  /** The name of the current member, for an object. */
  name: string;
}

/** Scans a refused text again to find the member at fault. */
function refuse(reason: 'duplicate_member' | 'forbidden_member' | 'inexact_number', text: string): StrictJsonResult {
  const open: OpenContainer[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    const top = open.at(-1);
    if (unit === QUOTE) {
      const end = endOfString(text, at);
      if (top !== undefined && top.names !== null && isName(text, end + 1)) {
        top.name = JSON.parse(text.slice(at, end + 1)) as string;
        const atFault = reason === 'forbidden_member' ? FORBIDDEN_MEMBERS.has(top.name) : top.names.has(top.name);
        if (atFault && reason !== 'inexact_number') return { ok: false, reason, at: pathOf(open) };
        top.names.add(top.name);
      }
      at = end;
    } else if (beginsNumber(unit)) {
      const end = endOfNumber(text, at);
      if (reason === 'inexact_number' && !isExact(text, at, end)) return { ok: false, reason, at: pathOf(open) };
      at = end - 1;
    } else if ((unit | BRACE_BIT) === OPENING) {
      open.push({ names: unit === OPENING ? new Set() : null, index: 0, name: '' });
    } else if ((unit | BRACE_BIT) === CLOSING) {
      open.pop();
    } else if (unit === COMMA && top !== undefined) {
      top.index += 1;
    }
  }
  // Reached only if the scan above misses the fault. The text is refused anyway.
  return { ok: false, reason };
}

const COMMA = 0x2c;
const WHITE_SPACE: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d]);

/** Whether the string that ended before `from` is a member name, which is when a colon follows. */
function isName(text: string, from: number): boolean {
  let at = from;
  while (WHITE_SPACE.has(text.charCodeAt(at))) at += 1;
  return text.charCodeAt(at) === COLON;
}

function pathOf(open: readonly OpenContainer[]): string {
  return fieldPath(open.map(({ names, index, name }) => (names === null ? index : name)));
}
