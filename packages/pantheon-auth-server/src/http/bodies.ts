/**
 * Parses bodies: unambiguous JSON (`strict-json.ts`), and forms without repeated parameters. Any other content type is
 * refused before the body is read. Size limits are in `server-bounds.ts`.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { PantheonError, parseStrictJson } from 'pantheon-auth';
import { FORM_PARAMETERS_MAX, JSON_DEPTH_MAX } from '../settings/server-bounds.ts';

/**
 * Only these spellings: with a more tolerant check, a proxy or firewall might read the same content type differently.
 */
const JSON_TYPE = /^application\/json(?: ?; ?charset="?utf-8"?)?$/i;
/** The content type of a JSON merge patch (RFC 7396). A PATCH may also be sent as `application/json`. */
const MERGE_PATCH_TYPE = /^application\/merge-patch\+json(?: ?; ?charset="?utf-8"?)?$/i;
const FORM_TYPE = /^application\/x-www-form-urlencoded(?: ?; ?charset="?utf-8"?)?$/i;

/** A parsed form: all values of each parameter, in the order in which they were sent. */
export type Form = ReadonlyMap<string, readonly string[]>;

/** Parameters of the token endpoint that may be repeated (RFC 8693 section 2.1). */
const REPEATABLE: ReadonlySet<string> = new Set(['audience', 'resource']);

export type BodyKind = 'json' | 'form';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Default: JSON. */
    bodyKind?: BodyKind;
  }
}

/** Registers the body parsers of the whole service. */
export function readBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    settle(done, () => parseJson(request, body as Buffer));
  });
  app.addContentTypeParser('application/merge-patch+json', { parseAs: 'buffer' }, (request, body, done) => {
    settle(done, () => parseJson(request, body as Buffer));
  });
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'buffer' }, (request, body, done) => {
    settle(done, () => parseForm(request, body as Buffer));
  });
  app.addContentTypeParser('*', (request, _payload, done) => {
    done(unsupported(request));
  });
}

type Done = (error: Error | null, body?: unknown) => void;

function settle(done: Done, parse: () => unknown): void {
  try {
    done(null, parse());
  } catch (error) {
    done(error as Error);
  }
}

function parseJson(request: FastifyRequest, body: Buffer): unknown {
  assertType(request, 'json', isMergePatch(request) ? MERGE_PATCH_TYPE : JSON_TYPE);
  if (body.length === 0) return undefined;
  const parsed = parseStrictJson(utf8(body, 'invalid_json'), { depthMax: JSON_DEPTH_MAX });
  if (!parsed.ok) {
    const place = parsed.reason === 'inexact_number' ? { field: parsed.at || 'body' } : {};
    throw new PantheonError('invalid_json', { ...place, detail: REASONS[parsed.reason] });
  }
  if (typeof parsed.value !== 'object' || parsed.value === null || Array.isArray(parsed.value))
    throw new PantheonError('invalid_request', { field: 'body', detail: 'Send a JSON object.' });
  return parsed.value;
}

function isMergePatch({ method, headers }: FastifyRequest): boolean {
  return method === 'PATCH' && headers['content-type']?.toLowerCase().startsWith('application/merge-patch') === true;
}

const REASONS = {
  syntax: 'It cannot be parsed.',
  duplicate_member: 'A member occurs twice.',
  forbidden_member: 'A member has a name that is not allowed.',
  inexact_number: 'A number is too large or too exact to be read as it was sent. Send it as a string.',
  depth: `It is nested more than ${JSON_DEPTH_MAX} levels deep.`,
} as const;

function parseForm(request: FastifyRequest, body: Buffer): Form {
  assertType(request, 'form', FORM_TYPE);
  const form = new Map<string, string[]>();
  const parameters = new URLSearchParams(utf8(body, 'invalid_request'));
  if (parameters.size > FORM_PARAMETERS_MAX)
    throw new PantheonError('invalid_request', { detail: 'Too many parameters.' });
  for (const [name, value] of parameters) {
    // A parameter without a value counts as omitted (RFC 6749 section 3.2).
    if (value === '') continue;
    const known = form.get(name);
    if (known !== undefined && !REPEATABLE.has(name))
      throw new PantheonError('invalid_request', { detail: 'A parameter occurs twice.' });
    form.set(name, [...(known ?? []), value]);
  }
  return form;
}

/** A repeated parameter becomes a list, which every schema refuses. */
export function parseQuery(text: string): Record<string, unknown> {
  const query = new Map<string, unknown>();
  for (const [name, value] of new URLSearchParams(text)) query.set(name, query.has(name) ? TWICE : value);
  return Object.fromEntries(query);
}

const TWICE: readonly string[] = [];

/** Each route accepts one kind of body, also when the body is empty. */
function assertType(request: FastifyRequest, kind: BodyKind, expected: RegExp): void {
  const isPlain = (request.headers['content-encoding'] ?? 'identity') === 'identity';
  const isWanted = (request.routeOptions.config.bodyKind ?? 'json') === kind;
  if (!isWanted || !isPlain || !expected.test(request.headers['content-type'] ?? '')) throw unsupported(request);
}

function unsupported(request: FastifyRequest): PantheonError {
  if (request.routeOptions.config.bodyKind !== 'form') return new PantheonError('unsupported_media_type');
  const detail = 'Send the parameters as a form: application/x-www-form-urlencoded, and not as JSON.';
  return new PantheonError('unsupported_media_type', { detail });
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function utf8(body: Buffer, code: 'invalid_json' | 'invalid_request'): string {
  try {
    return UTF8.decode(body);
  } catch (cause) {
    throw new PantheonError(code, { detail: 'It is not UTF-8.', cause });
  }
}
