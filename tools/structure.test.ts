/** The structure of the workspace holds, and the checker that says so would notice if it did not. */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { checkStructure } from './structure/check.ts';
import { FUNCTION_LINES_MAX, RULES, type Rule, SOURCE_LINES_MAX } from './structure/rules.ts';
import { readWorkspace, toWorkspace } from './structure/workspace.ts';

const rules = Object.keys(RULES) as readonly Rule[];

describe('the workspace', () => {
  const violations = checkStructure(readWorkspace(fileURLToPath(new URL('..', import.meta.url))));

  test.each(rules.map((rule) => [RULES[rule], rule] as const))('%s', (_sentence, rule) => {
    const found = violations.filter((violation) => violation.rule === rule);
    expect(found.map(({ at, message }) => `${at}  ${message}`)).toEqual([]);
  });
});

const MANIFESTS = [
  [
    'packages/pantheon-auth/package.json',
    JSON.stringify({
      name: 'pantheon-auth',
      exports: {
        '.': { source: './src/index.ts', default: './dist/index.js' },
        './express': { source: './src/middleware/express.ts' },
        './testing': { source: './src/testing/index.ts' },
        './package.json': './package.json',
      },
    }),
  ],
  [
    'packages/pantheon-auth-server/package.json',
    JSON.stringify({ name: 'pantheon-auth-server', bin: { a: './dist/cli/main.js', b: './dist/cli/main.js' } }),
  ],
] as const;

/** A small workspace that keeps every rule; each test below breaks one. */
const SOUND: Readonly<Record<string, string>> = {
  'pantheon-auth/src/index.ts':
    "export { createPantheonAuth } from './pantheon-auth.ts';\nexport type * from './domain/key.ts';",
  'pantheon-auth/src/pantheon-auth.ts':
    "import './engine/open-engine.ts'; import './jwt-handler.ts'; import './middleware.ts'; import './api-keys/key-manager.ts'; import { systemClock } from './foundation/clock.ts'; export const createPantheonAuth = systemClock;",
  'pantheon-auth/src/engine/open-engine.ts': "import '../storage/database.ts'; export {};",
  'pantheon-auth/src/jwt-handler.ts': "import './jwt/jws.ts'; export {};",
  'pantheon-auth/src/middleware.ts': "import './foundation/clock.ts'; export const refuse = 1;",
  'pantheon-auth/src/middleware/express.ts':
    "import type { Request } from 'express'; import { refuse } from '../middleware.ts'; export const x = (r: Request) => refuse;",
  'pantheon-auth/src/testing/index.ts': "export * from './arbitraries.ts';",
  'pantheon-auth/src/testing/arbitraries.ts': "import fc from 'fast-check'; export const a = fc;",
  'pantheon-auth/src/foundation/clock.ts':
    'export const systemClock = { now: () => Date.now(), ms: () => performance.now() };',
  'pantheon-auth/src/domain/key.ts':
    "import { BlockList } from 'node:net'; export type Key = BlockList; export const at = new Date(0);",
  'pantheon-auth/src/commands/run-command.ts': "import '../domain/key.ts'; export {};",
  'pantheon-auth/src/api-keys/key-manager.ts':
    "import type { Key } from '../domain/key.ts'; import '../commands/run-command.ts'; export const k: Key | null = null; // Date.now(), console.log\nexport const s = 'process.env eval()';",
  'pantheon-auth/src/jwt/jws.ts':
    "import { timingSafeEqual } from 'node:crypto'; export const equal = timingSafeEqual;",
  'pantheon-auth/src/storage/database.ts':
    "import { DatabaseSync } from 'node:sqlite'; import { Kysely } from 'kysely'; import '../api-keys/key-manager.ts'; export const d = [DatabaseSync, Kysely];",
  'pantheon-auth-server/src/cli/main.ts':
    "import { createPantheonAuth } from 'pantheon-auth'; import '../settings/config.ts'; console.log(createPantheonAuth); new URL('../service/worker.ts', import.meta.url); new URL('../page.html', import.meta.url);",
  'pantheon-auth-server/src/settings/config.ts': 'export const port = process.env.PORT;',
  'pantheon-auth-server/src/service/worker.ts': "import fastify from 'fastify'; export const app = fastify;",
  'pantheon-auth-server/src/settings/config.test.ts':
    "import { test } from 'vitest'; import 'hono'; console.log(Date.now(), Math.random(), process.env, import(String(test)));",
};

/** What is broken once `changes` are made to the sound workspace; null takes a file away. */
function broken(changes: Readonly<Record<string, string | null>>): readonly (readonly [Rule, string])[] {
  const sources = Object.entries({ ...SOUND, ...changes }).flatMap(([path, text]) =>
    text === null ? [] : [[`packages/${path}`, text] as const],
  );
  return checkStructure(toWorkspace(MANIFESTS, sources)).map(({ rule, at }) => [rule, at.replace('packages/', '')]);
}

/** One more statement at the end of a file of the sound workspace. */
function plus(path: string, statement: string): Readonly<Record<string, string>> {
  return { [path]: `${SOUND[path] ?? ''}\n${statement}` };
}

const LIB = 'pantheon-auth/src/';
const SERVER = 'pantheon-auth-server/src/';

describe('the checker', () => {
  test('accepts a correct workspace', () => {
    expect(broken({})).toEqual([]);
  });

  test.each([
    ['foundation', `${LIB}foundation/clock.ts`, "import '../domain/limits.ts';", `${LIB}domain/limits.ts`],
    ['domain', `${LIB}domain/key.ts`, "import type {} from '../events/ledger.ts';", `${LIB}events/ledger.ts`],
    ['a feature', `${LIB}jwt/jws.ts`, "export * from '../storage/rows.ts';", `${LIB}storage/rows.ts`],
    ['schema', `${LIB}schema/t.ts`, "import type {} from '../events/ledger.ts';", `${LIB}events/ledger.ts`],
    ['commands', `${LIB}commands/run-command.ts`, "import '../tenants/t.ts';", `${LIB}tenants/t.ts`],
    ['api-keys', `${LIB}api-keys/key-manager.ts`, "import '../jwt/t.ts';", `${LIB}jwt/t.ts`],
    ['storage', `${LIB}storage/database.ts`, "type T = import('../testing/t.ts').T;", `${LIB}testing/t.ts`],
    ['jwt-handler', `${LIB}jwt-handler.ts`, "await import('./storage/rows.ts');", `${LIB}storage/rows.ts`],
    ['an adapter', `${LIB}middleware/express.ts`, "import '../domain/limits.ts';", `${LIB}domain/limits.ts`],
    ['the face', `${LIB}pantheon-auth.ts`, "import './storage/database.ts';", `${LIB}storage/rows.ts`],
    ['verification', `${LIB}verification/t.ts`, "import '../commands/run-command.ts';", `${LIB}commands/u.ts`],
    ['settings', `${SERVER}settings/config.ts`, "import '../http/t.ts';", `${SERVER}http/t.ts`],
    ['http', `${SERVER}http/t.ts`, "import '../service/worker.ts';", `${SERVER}service/u.ts`],
    ['index', `${LIB}index.ts`, "export * from './middleware/fetch.ts';", `${LIB}middleware/fetch.ts`],
  ])('detects an import of a higher layer from %s', (_name, path, statement, target) => {
    expect(broken({ ...plus(path, statement), [target]: 'export type T = 1;' })).toContainEqual([
      'arrow',
      expect.stringContaining(path),
    ]);
  });

  test('detects a file of the library outside every layer', () => {
    const path = `${LIB}extras/gadget.ts`;
    expect(broken({ [path]: 'export {};', ...plus(`${LIB}index.ts`, "export * from './extras/gadget.ts';") })).toEqual([
      ['layer', path],
    ]);
  });

  test.each([
    ['by a name that is not exported', "import 'pantheon-auth/src/domain/key.ts';"],
    ['by a path', "import '../../../pantheon-auth/src/domain/key.ts';"],
  ])('detects that the server imports the library %s', (_name, statement) => {
    expect(broken(plus(`${SERVER}service/worker.ts`, statement))).toEqual([
      ['public-entry', `${SERVER}service/worker.ts:2`],
    ]);
  });

  test.each([
    [`${LIB}middleware/express.ts`, 'hono'],
    [`${LIB}middleware/express.ts`, 'fastify'],
    [`${LIB}storage/database.ts`, 'pg'],
    [`${LIB}jwt/jws.ts`, 'kysely'],
    [`${LIB}jwt/jws.ts`, 'node:sqlite'],
    [`${SERVER}service/worker.ts`, 'kysely'],
    [`${LIB}jwt/jws.ts`, 'redis'],
    [`${LIB}domain/key.ts`, 'express/lib/router'],
    [`${SERVER}service/worker.ts`, 'vitest'],
  ])('detects that %s imports %s', (path, name) => {
    expect(broken(plus(path, `import type {} from '${name}';`))).toContainEqual([
      'package-owner',
      expect.stringContaining(path),
    ]);
  });

  test('detects a driver that the main entry reaches, also from the file that owns it', () => {
    expect(
      broken({
        ...plus(`${LIB}engine/open-engine.ts`, "import '../storage/postgres/postgres.ts';"),
        [`${LIB}storage/postgres/postgres.ts`]: "import type { Pool } from 'pg'; export type P = Pool;",
      }),
    ).toEqual([['root-entry', `${LIB}storage/postgres/postgres.ts:1`]]);
  });

  test.each(['node:fs', 'node:fs/promises', 'node:http'])('detects %s in the domain', (name) => {
    expect(broken(plus(`${LIB}domain/key.ts`, `import '${name}';`))).toEqual([
      ['pure-domain', `${LIB}domain/key.ts:2`],
    ]);
  });

  test('detects a cycle, also one made of types and one that a test closes', () => {
    const types = broken({
      ...plus(`${LIB}jwt/jws.ts`, "import type {} from './claims.ts';"),
      [`${LIB}jwt/claims.ts`]: "import './jws.ts'; export {};",
    });
    expect(types.map(([rule]) => rule)).toEqual(['cycle']);
    const byTest = broken({
      [`${LIB}jwt/a.test.ts`]: "import './b.test.ts';",
      [`${LIB}jwt/b.test.ts`]: "import './a.test.ts';",
    });
    expect(byTest.map(([rule]) => rule)).toEqual(['cycle']);
  });

  test('detects an unused file, also if only its test or another unused file imports it', () => {
    expect(
      broken({
        [`${LIB}jwt/old.ts`]: "import './older.ts';",
        [`${LIB}jwt/older.ts`]: 'export {};',
        [`${LIB}jwt/old.test.ts`]: "import './old.ts';",
      }),
    ).toEqual([
      ['dead-file', `${LIB}jwt/old.ts`],
      ['dead-file', `${LIB}jwt/older.ts`],
    ]);
  });

  test('detects a worker that is never started', () => {
    expect(broken({ [`${SERVER}cli/main.ts`]: "import '../settings/config.ts'; import 'pantheon-auth';" })).toEqual([
      ['dead-file', `${SERVER}service/worker.ts`],
    ]);
  });

  test('detects an import and an entry without a file', () => {
    expect(broken(plus(`${LIB}jwt/jws.ts`, "import './gone.ts';"))).toEqual([['missing-file', `${LIB}jwt/jws.ts:2`]]);
    expect(broken({ [`${LIB}testing/index.ts`]: null, [`${LIB}testing/arbitraries.ts`]: null })).toEqual([
      ['missing-file', 'pantheon-auth/package.json'],
    ]);
  });

  test.each([
    'Date.now();',
    'globalThis.Date.now();',
    "Date['now']();",
    'const now = Date.now;',
    'const { now } = Date;',
    'Date();',
    'new Date();',
    'new Date;',
    'performance.now();',
    'performance?.now();',
    'process.hrtime.bigint();',
    'Math.random();',
    'process.env.HOME;',
    "process.env['HOME'];",
    'const { env } = process;',
    "import { env } from 'node:process';",
    'console.log(1);',
    "eval('1');",
    "new Function('return 1');",
    "Function('return 1')();",
    "require('node:fs');",
  ])('detects %s', (statement) => {
    const found = broken(plus(`${LIB}jwt/jws.ts`, statement));
    expect(new Set(found.map(([rule, at]) => `${rule} ${at}`))).toEqual(new Set([`banned-call ${LIB}jwt/jws.ts:2`]));
  });

  test('allows a banned call in its own file only', () => {
    expect(broken(plus(`${SERVER}settings/config.ts`, 'console.log(process.env);'))).toEqual([
      ['banned-call', `${SERVER}settings/config.ts:2`],
    ]);
    expect(broken(plus(`${SERVER}cli/main.ts`, 'console.log(process.env);'))).toEqual([
      ['banned-call', `${SERVER}cli/main.ts:2`],
    ]);
    expect(broken(plus(`${LIB}foundation/clock.ts`, 'Math.random();'))).toEqual([
      ['banned-call', `${LIB}foundation/clock.ts:2`],
    ]);
  });

  test('detects an import with a computed name', () => {
    expect(broken(plus(`${SERVER}service/worker.ts`, 'await import(String(1));'))).toEqual([
      ['readable-import', `${SERVER}service/worker.ts:2`],
    ]);
  });

  test('detects an index file that does more than re-export', () => {
    for (const statement of ['export const a = 1;', "import './pantheon-auth.ts';", 'export {};']) {
      expect(broken(plus(`${LIB}index.ts`, statement))).toContainEqual(['re-exports', `${LIB}index.ts`]);
    }
  });

  test.each(['jwt/utils.ts', 'jwt/types.ts', 'jwt/common/jws.ts', 'storage/helpers.ts'])(
    'detects the file name %s',
    (name) => {
      expect(broken({ [LIB + name]: 'export {};', ...plus(`${LIB}index.ts`, `export * from './${name}';`) })).toEqual([
        ['name', LIB + name],
      ]);
    },
  );

  test('detects a function that is one line too long, unless it is a table', () => {
    const long = (lines: number): string =>
      `export const equal = 1;\nexport function f() {\n${'equal;\n'.repeat(lines - 2)}}`;
    expect(broken({ [`${LIB}jwt/jws.ts`]: long(FUNCTION_LINES_MAX) })).toEqual([]);
    expect(broken({ [`${LIB}jwt/jws.ts`]: long(FUNCTION_LINES_MAX + 1) })).toEqual([
      ['function-length', `${LIB}jwt/jws.ts:2`],
    ]);
    const table = `export const f = () => [\n${'1,\n'.repeat(FUNCTION_LINES_MAX)}];`;
    expect(broken({ [`${LIB}jwt/jws.ts`]: table })).toEqual([]);
  });

  test('detects a file that is one line too long', () => {
    const padded = (lines: number): string => `export const equal = 1;\n${'//\n'.repeat(lines - 1)}`;
    expect(broken({ [`${LIB}jwt/jws.ts`]: padded(SOURCE_LINES_MAX) })).toEqual([]);
    expect(broken({ [`${LIB}jwt/jws.ts`]: padded(SOURCE_LINES_MAX + 1) })).toEqual([['length', `${LIB}jwt/jws.ts`]]);
  });

  test('says which file cannot be read', () => {
    expect(() => broken({ [`${LIB}jwt/jws.ts`]: 'export const = ;' })).toThrow('jwt/jws.ts');
  });
});
