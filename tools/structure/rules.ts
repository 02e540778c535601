/**
 * The rules of the structure as tables: which way imports may point, who may import which package, which calls have one
 * home, which names a file may not have. To change a rule, change a row here. `check.ts` only reads these tables, and
 * `docs` explain why the structure is as it is.
 *
 * A path ends in `/` when it means a folder and all below it; a path that does not end in `.ts` or `/` is a prefix.
 */

const LIBRARY = 'packages/pantheon-auth/src/';
const SERVER = 'packages/pantheon-auth-server/src/';

/** Every rule, with the sentence that names it in a test. */
export const RULES = {
  arrow:
    'every import points down: foundation, domain, schema, mechanisms, verification, commands, tenants, api-keys, jwt, storage, engine, index',
  layer: 'every file of the library and of the server has a place in the structure',
  'public-entry': 'a package is imported by its public entries only',
  'package-owner': 'drivers and frameworks are imported only by the files that own them',
  'root-entry': 'the root entry reaches no framework, no driver and no test library',
  'pure-domain': 'the domain does no I/O',
  cycle: 'imports make no circle, not even for types',
  'dead-file': 'every source file is reached from an entry of its package',
  'missing-file': 'every import and every promised entry leads to a file',
  'banned-call': 'the clock, chance, the environment and the console have one home each',
  'readable-import': 'every import can be read without running the program',
  're-exports': 'an index file only re-exports',
  name: 'a file is named for the idea it owns',
  length: 'a source file stays short enough to be read in one go',
  'function-length': 'a function fits a screen or two, unless it is a table',
} as const;

export type Rule = keyof typeof RULES;

export interface Layer {
  readonly name: string;
  readonly owns: readonly string[];
  /** Names of other layers. A layer may always import itself. */
  readonly mayImport: readonly string[];
}

/** What the changes of access state are built on. */
const MECHANISMS = ['events/', 'kms/', 'rate-limit/', 'usage/'];
const BELOW_COMMANDS = ['foundation', 'domain', 'schema', 'mechanisms', 'verification'];
const BELOW_TENANTS = [...BELOW_COMMANDS, 'commands'];
const FEATURES = [...BELOW_TENANTS, 'tenants', 'api-keys', 'jwt'];
const BELOW_ENGINE = [...FEATURES, 'background', 'storage', 'entrance'];

/** From the bottom to the top. Paths are relative to the library's `src/`. */
export const LIBRARY_LAYERS: readonly Layer[] = [
  { name: 'foundation', owns: ['foundation/'], mayImport: [] },
  { name: 'domain', owns: ['domain/'], mayImport: ['foundation'] },
  // What is in the rows of access state. Features make and read them, storage makes SQL of them.
  { name: 'schema', owns: ['schema/'], mayImport: ['domain'] },
  { name: 'mechanisms', owns: MECHANISMS, mayImport: ['foundation', 'domain', 'schema'] },
  // Facts about keys and their age. It knows nothing of what changes them.
  { name: 'verification', owns: ['verification/'], mayImport: ['foundation', 'domain', 'mechanisms'] },
  { name: 'commands', owns: ['commands/'], mayImport: BELOW_COMMANDS },
  // One direction each: what a lower one needs of a higher one is passed to it.
  { name: 'tenants', owns: ['tenants/'], mayImport: BELOW_TENANTS },
  { name: 'api-keys', owns: ['api-keys/'], mayImport: [...BELOW_TENANTS, 'tenants'] },
  { name: 'jwt', owns: ['jwt/', 'jwt-handler.ts'], mayImport: [...BELOW_TENANTS, 'tenants', 'api-keys'] },
  // Work in the background, made of what the features do. No feature knows of it.
  { name: 'background', owns: ['jobs/', 'log-consumers/'], mayImport: FEATURES },
  { name: 'storage', owns: ['storage/'], mayImport: [...FEATURES, 'background'] },
  // What a request meets first. The adapters for frameworks know it and nothing else.
  {
    name: 'entrance',
    owns: ['middleware.ts', 'middleware/authenticate-options.ts', 'middleware/refusal.ts'],
    mayImport: FEATURES,
  },
  {
    name: 'adapters',
    owns: ['middleware/'],
    mayImport: ['foundation', 'middleware.ts', 'middleware/authenticate-options.ts', 'domain/client-address.ts'],
  },
  // Only here implementations are picked, so it alone reaches storage.
  { name: 'engine', owns: ['engine/'], mayImport: BELOW_ENGINE },
  { name: 'face', owns: ['pantheon-auth.ts'], mayImport: [...FEATURES, 'background', 'entrance', 'engine'] },
  { name: 'testing', owns: ['testing/'], mayImport: [...BELOW_ENGINE, 'engine', 'face'] },
  { name: 'index', owns: ['index.ts'], mayImport: [...BELOW_ENGINE, 'engine', 'face'] },
].map((layer) => ({ ...layer, owns: layer.owns.map((path) => LIBRARY + path) }));

/** From the bottom to the top. Paths are relative to the server's `src/`. */
export const SERVER_LAYERS: readonly Layer[] = [
  { name: 'settings', owns: ['settings/'], mayImport: [] },
  // What every route needs: bodies, problems, the caller, the log.
  { name: 'http', owns: ['http/'], mayImport: ['settings'] },
  { name: 'oauth', owns: ['oauth/'], mayImport: ['settings', 'http'] },
  { name: 'api', owns: ['api/'], mayImport: ['settings', 'http', 'oauth'] },
  { name: 'app', owns: ['app.ts'], mayImport: ['settings', 'http', 'oauth', 'api'] },
  { name: 'service', owns: ['service/'], mayImport: ['settings', 'http', 'oauth', 'api', 'app'] },
  { name: 'cli', owns: ['cli/'], mayImport: ['settings', 'http', 'app', 'service'] },
  { name: 'server-index', owns: ['index.ts'], mayImport: ['settings', 'http', 'app', 'service'] },
].map((layer) => ({ ...layer, owns: layer.owns.map((path) => SERVER + path) }));

/** A layer may name a single file of another layer, as the adapters do with `middleware.ts`. */
export const LIBRARY_ROOT: string = LIBRARY;
export const SERVER_ROOT: string = SERVER;

export interface PackageOwner {
  /** The package, or a prefix ending in `/` for a scope. Its subpaths count too. */
  readonly packages: readonly string[];
  /** The rule holds for files under this path. */
  readonly within: string;
  readonly owners: readonly string[];
}

export const PACKAGE_OWNERS: readonly PackageOwner[] = [
  { packages: ['express'], within: LIBRARY, owners: [`${LIBRARY}middleware/express.ts`] },
  { packages: ['fastify', 'fastify-plugin'], within: LIBRARY, owners: [`${LIBRARY}middleware/fastify.ts`] },
  { packages: ['hono'], within: LIBRARY, owners: [`${LIBRARY}middleware/hono.ts`] },
  { packages: ['jose'], within: LIBRARY, owners: [`${LIBRARY}api-keys/recipient-key.ts`] },
  { packages: ['pg'], within: 'packages/', owners: [`${LIBRARY}storage/postgres/`] },
  { packages: ['redis', '@redis/'], within: 'packages/', owners: [`${LIBRARY}rate-limit/redis/`] },
  { packages: ['kysely', 'node:sqlite'], within: 'packages/', owners: [`${LIBRARY}storage/`] },
  { packages: ['vitest', 'fast-check'], within: 'packages/', owners: [`${LIBRARY}testing/`] },
];

/** Outside the packages, for their tests: never for what is published. */
export const TEST_TOOLS: readonly string[] = ['tools/servers/'];

/** What must not be reached from the library's root entry, for its types either: who installs the library has none of these. */
export const ROOT_ENTRY: string = `${LIBRARY}index.ts`;
export const NOT_FROM_ROOT_ENTRY: readonly string[] = [
  'express',
  'fastify',
  'fastify-plugin',
  'hono',
  'pg',
  'redis',
  '@redis/',
  'vitest',
  'fast-check',
];

/** `node:net` is missing on purpose: its BlockList is arithmetic. */
export const IO_MODULES: readonly string[] = [
  'node:child_process',
  'node:cluster',
  'node:dgram',
  'node:dns',
  'node:fs',
  'node:http',
  'node:http2',
  'node:https',
  'node:readline',
  'node:sqlite',
  'node:timers',
  'node:tls',
  'node:worker_threads',
];
export const PURE_FOLDER: string = `${LIBRARY}domain/`;

export interface Ban {
  /** `a.b` covers `a.b` and all below it; `f()` is a call; `new F()` has no argument, `new F(…)` has any. */
  readonly uses: readonly string[];
  readonly allowedIn: readonly string[];
  readonly instead: string;
}

export const BANNED: readonly Ban[] = [
  {
    uses: ['Date.now', 'Date()', 'new Date()', 'performance.now', 'process.hrtime', 'process.uptime'],
    allowedIn: [`${LIBRARY}foundation/clock.ts`],
    instead: 'take a Clock',
  },
  { uses: ['Math.random'], allowedIn: [], instead: 'use node:crypto' },
  {
    uses: ['process.env'],
    allowedIn: [`${SERVER}settings/config.ts`],
    instead: 'take it as an option; config.ts parses it',
  },
  {
    uses: ['console'],
    allowedIn: [`${SERVER}cli/`],
    instead: 'use the logger, or return the text to the command line',
  },
  { uses: ['eval()', 'new Function()', 'new Function(…)', 'Function()'], allowedIn: [], instead: 'write the code' },
  { uses: ['require()', 'createRequire()'], allowedIn: [], instead: 'use import' },
];

/** Names that say nothing about what a file owns, for files and for folders. */
export const EMPTY_NAMES: ReadonlySet<string> = new Set([
  'common',
  'helper',
  'helpers',
  'misc',
  'shared',
  'type',
  'types',
  'util',
  'utils',
]);

/** Under 300 is the aim; past 350 a reader loses the thread. */
export const SOURCE_LINES_MAX = 350;

/** More is several functions. */
export const FUNCTION_LINES_MAX = 70;

/** Whether `path` is `pattern`, lies in it, or starts with it when it is a prefix. */
export function covers(pattern: string, path: string): boolean {
  return pattern.endsWith('.ts') ? path === pattern : path.startsWith(pattern);
}

/** Whether `specifier` is one of `packages`, or a subpath of one. */
export function isOneOf(packages: readonly string[], specifier: string): boolean {
  return packages.some((name) =>
    name.endsWith('/') ? specifier.startsWith(name) : specifier === name || specifier.startsWith(`${name}/`),
  );
}
