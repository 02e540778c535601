/**
 * Reads bodies: JSON that means one thing, and forms without repeated parameters. Anything else is refused by its type,
 * before it is read. How large a body may be is `server-bounds.ts`.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { PantheonError, parseStrictJson } from 'pantheon-auth';
import { FORM_PARAMETERS_MAX, JSON_DEPTH_MAX } from '../settings/server-bounds.ts';

/** Exactly these spellings: a parser that is generous here lets through what others read differently. */
const JSON_TYPE = /^application\/json(?: ?; ?charset="?utf-8"?)?$/i;
/** What a PATCH is (RFC 7396); `application/json` says it too. */
const MERGE_PATCH_TYPE = /^application\/merge-patch\+json(?: ?; ?charset="?utf-8"?)?$/i;
const FORM_TYPE = /^application\/x-www-form-urlencoded(?: ?; ?charset="?utf-8"?)?$/i;

/** A form: every value of every parameter, in order. */
export type Form = ReadonlyMap<string, readonly string[]>;

/** Of these the token endpoint takes several (RFC 8693 section 2.1). */
const REPEATABLE: ReadonlySet<string> = new Set(['audience', 'resource']);

export type BodyKind = 'json' | 'form';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Default: JSON. */
    bodyKind?: BodyKind;
  }
}

/** The parsers of the whole service. */
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
    // Without a value means left out (RFC 6749 section 3.2).
    if (value === '') continue;
    const known = form.get(name);
    if (known !== undefined && !REPEATABLE.has(name))
      throw new PantheonError('invalid_request', { detail: 'A parameter occurs twice.' });
    form.set(name, [...(known ?? []), value]);
  }
  return form;
}

/** A parameter that occurs twice becomes a list, which no schema of ours takes. */
export function parseQuery(text: string): Record<string, unknown> {
  const query = new Map<string, unknown>();
  for (const [name, value] of new URLSearchParams(text)) query.set(name, query.has(name) ? TWICE : value);
  return Object.fromEntries(query);
}

const TWICE: readonly string[] = [];

/** Each route takes one kind of body: a form is no JSON, however few members that would have. */
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
