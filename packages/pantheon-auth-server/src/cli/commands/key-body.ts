/** What the command line says about a new key, as the body of `POST /v1/keys`. What may be in it, the API decides. */
import { parseStrictJson } from 'pantheon-auth';
import { readTextFile } from '../secret-input.ts';
import type { ConnectionOptions } from '../session.ts';
import { invalid } from './arguments.ts';

export interface CreateOptions extends ConnectionOptions {
  readonly user: string;
  readonly name: string;
  readonly description?: string;
  readonly permission?: readonly string[];
  readonly grantable?: readonly string[];
  readonly environment?: string;
  readonly notBefore?: string;
  readonly expiresIn?: string;
  readonly expiresAt?: string;
  readonly rateLimit?: readonly string[];
  readonly quota?: string;
  readonly ip?: readonly string[];
  readonly rotateEvery?: string;
  readonly overlap?: string;
  readonly jwtAlgorithm?: string;
  readonly audience?: readonly string[];
  readonly ttl?: string;
  readonly claims?: string;
  readonly metadata?: string;
  readonly idempotencyKey?: string;
  readonly out?: string;
}

/** Members that are undefined are left out of the JSON. @throws PantheonError `invalid_request`, naming the option. */
export async function toCreateBody(options: CreateOptions): Promise<object> {
  return {
    userId: options.user,
    name: options.name,
    description: options.description,
    environment: options.environment,
    permissions: options.permission,
    grantable: options.grantable,
    notBefore: options.notBefore,
    expiresIn: options.expiresIn,
    expiresAt: options.expiresAt,
    rateLimits: options.rateLimit?.map(toRateLimit),
    quota: options.quota === undefined ? undefined : toQuota(options.quota),
    ipAllowlist: options.ip,
    rotation: orNothing({ every: options.rotateEvery, overlap: options.overlap }),
    jwt: orNothing({
      algorithm: options.jwtAlgorithm,
      audience: options.audience,
      ttl: options.ttl,
      customClaims: options.claims === undefined ? undefined : await toObject(options.claims, 'claims'),
    }),
    metadata: options.metadata === undefined ? undefined : await toObject(options.metadata, 'metadata'),
  };
}

function orNothing(members: Readonly<Record<string, unknown>>): object | undefined {
  return Object.values(members).some((value) => value !== undefined) ? members : undefined;
}

function toRateLimit(text: string, at: number): object {
  const [, name, limit, window] = /^([^=/]{1,64})=(\d{1,15})\/([^=/]{1,16})$/.exec(text) ?? [];
  if (name === undefined) throw invalid(`rate-limit[${at}]`, 'Write name=limit/window, as in requests=100/1m');
  return { name, limit: Number(limit), window };
}

function toQuota(text: string): object {
  const [, limit, period] = /^(\d{1,15})\/([a-z]{1,16})$/.exec(text) ?? [];
  if (limit === undefined) throw invalid('quota', 'Write limit/day or limit/month, as in 1000/day');
  return { limit: Number(limit), period };
}

/** What the API takes, and some white space. */
const JSON_BYTES_MAX = 65_536;
const JSON_DEPTH_MAX = 16;

async function toObject(text: string, field: string): Promise<unknown> {
  const json = text.startsWith('@') ? await readTextFile(text.slice(1), field, JSON_BYTES_MAX) : text;
  const parsed = parseStrictJson(json, { depthMax: JSON_DEPTH_MAX });
  if (!parsed.ok && parsed.reason === 'inexact_number')
    throw invalid(field, 'A number in it is too large or too exact to be kept as it is written: write it as a string');
  if (!parsed.ok) throw invalid(field, 'Write one JSON object without duplicate members, or @file');
  return parsed.value;
}
