/** Builds the body of `POST /v1/keys` and `PATCH /v1/keys/{id}` from options. The API validates it. */
import type { Command } from 'commander';
import { parseStrictJson } from 'pantheon-auth';
import { BODY_BYTES_MAX, JSON_DEPTH_MAX } from '../../settings/server-bounds.ts';
import { readTextFile } from '../secret-input.ts';
import type { ConnectionOptions } from '../session.ts';
import { invalid } from './arguments.ts';

/** Options of a new or existing key. */
export interface KeyOptions extends ConnectionOptions {
  readonly user?: string;
  readonly name?: string;
  readonly description?: string;
  readonly permission?: readonly string[];
  readonly grantable?: readonly string[];
  readonly notBefore?: string;
  readonly expiresIn?: string;
  readonly expiresAt?: string;
  readonly rateLimit?: readonly string[];
  readonly quota?: string;
  readonly ip?: readonly string[];
  readonly rotateEvery?: string;
  readonly overlap?: string;
  readonly rotationWindow?: string;
  readonly onMissedRotation?: string;
  readonly recipientJwk?: string;
  readonly jwtAlgorithm?: string;
  readonly audience?: readonly string[];
  readonly ttl?: string;
  readonly claims?: string;
  readonly metadata?: string;
}

/** Adds the options of {@link KeyOptions}, except user and name. */
export function withKeySettings(command: Command): Command {
  return command
    .option('--description <text>', 'longer description')
    .option('--permission <pattern...>', 'permissions, such as orders:read or orders:*')
    .option('--grantable <pattern...>', 'permissions that it may give to other keys')
    .option('--not-before <time>', 'time before which it is denied, ISO 8601')
    .option('--expires-in <duration>', 'lifetime, such as 90d')
    .option('--expires-at <time>', 'expiry, ISO 8601')
    .option('--rate-limit <rule...>', 'name=limit/window, such as requests=100/1m')
    .option('--quota <rule>', 'limit/day or limit/month, such as 1000/day')
    .option('--ip <range...>', 'addresses that it may be used from, such as 10.0.0.0/8')
    .option('--rotate-every <duration>', 'age of a version at which a rotation is due, such as 30d')
    .option('--overlap <duration>', 'how long the previous version is accepted after a rotation, such as 24h')
    .option('--rotation-window <duration>', 'how long the holder has to claim the next version, such as 7d')
    .option('--on-missed-rotation <name>', 'then the window is opened again (extend) or the key expires (expire)')
    .option(
      '--recipient-jwk <json>',
      'public key of the holder, which the next key string is encrypted to: JSON or @file',
    )
    .option('--jwt-algorithm <name>', 'algorithm of its tokens: ES256 (default), Ed25519, RS256, HS256')
    .option('--audience <name...>', 'audiences of its tokens')
    .option('--ttl <duration>', 'lifetime of its tokens, such as 5m')
    .option('--claims <json>', 'custom claims of its tokens: JSON or @file')
    .option('--metadata <json>', 'metadata, stored encrypted: JSON or @file');
}

/** Undefined members are omitted from the JSON. @throws PantheonError `invalid_request`, naming the option. */
export async function toKeyBody(options: KeyOptions): Promise<Readonly<Record<string, unknown>>> {
  return {
    userId: options.user,
    name: options.name,
    description: options.description,
    permissions: options.permission,
    grantable: options.grantable,
    notBefore: options.notBefore,
    expiresIn: options.expiresIn,
    expiresAt: options.expiresAt,
    rateLimits: options.rateLimit?.map(toRateLimit),
    quota: options.quota === undefined ? undefined : toQuota(options.quota),
    ipAllowlist: options.ip,
    rotation: orNothing({
      every: options.rotateEvery,
      overlap: options.overlap,
      window: options.rotationWindow,
      onMissed: options.onMissedRotation,
      recipientJwk:
        options.recipientJwk === undefined ? undefined : await toObject(options.recipientJwk, 'recipient-jwk'),
    }),
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

async function toObject(text: string, field: string): Promise<unknown> {
  const json = text.startsWith('@') ? await readTextFile(text.slice(1), field, BODY_BYTES_MAX) : text;
  const parsed = parseStrictJson(json, { depthMax: JSON_DEPTH_MAX });
  if (!parsed.ok && parsed.reason === 'inexact_number')
    throw invalid(
      field,
      'A number in it is too large or has too many digits to be stored exactly: write it as a string',
    );
  if (!parsed.ok) throw invalid(field, 'Write one JSON object without duplicate members, or @file');
  return parsed.value;
}
