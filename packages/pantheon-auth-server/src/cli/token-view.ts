/** Decodes a token for display, without verifying it. The content must not be trusted. */
import { parseStrictJson } from 'pantheon-auth';
import { JSON_DEPTH_MAX } from '../settings/server-bounds.ts';
import { show } from './key-view.ts';
import type { JsonBody } from './transport.ts';

export interface DecodedToken {
  readonly header: JsonBody;
  readonly payload: JsonBody;
}

/** Null: it is not a JWT. The signature is not returned, so that the printed content cannot be used as a token. */
export function decodeToken(token: string): DecodedToken | null {
  const parts = token.split('.');
  const [header, payload] = parts.slice(0, 2).map(decodePart);
  return parts.length === 3 && header && payload ? { header, payload } : null;
}

function decodePart(part: string): JsonBody | null {
  if (!/^[A-Za-z0-9_-]+$/.test(part)) return null;
  const parsed = parseStrictJson(Buffer.from(part, 'base64url').toString('utf8'), { depthMax: JSON_DEPTH_MAX });
  const isObject =
    parsed.ok && typeof parsed.value === 'object' && parsed.value !== null && !Array.isArray(parsed.value);
  return isObject ? (parsed.value as JsonBody) : null;
}

const TIMES: ReadonlySet<string> = new Set(['exp', 'iat', 'nbf']);

export function tokenFacts({ header, payload }: DecodedToken): readonly (readonly [string, string])[] {
  const said = Object.entries(payload).map(([name, value]): [string, string] => [
    name,
    TIMES.has(name) ? toTime(value) : show(value),
  ]);
  return [...Object.entries(header).map(([name, value]): [string, string] => [`header ${name}`, show(value)]), ...said];
}

function toTime(value: unknown): string {
  const time = new Date(typeof value === 'number' ? value * 1_000 : Number.NaN);
  return Number.isNaN(time.getTime()) ? show(value) : `${String(value)} (${time.toISOString()})`;
}
