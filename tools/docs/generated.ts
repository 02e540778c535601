/**
 * The parts of the documents that are made from the code, so that they cannot differ from it. In a document such a part
 * stands between `<!-- generated: name -->` and `<!-- generated: end -->`; the text around it is written by people.
 */
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ACTIONS, CODES, type Code, type CodeEntry, createPantheonAuth } from 'pantheon-auth';
import { loadConfig } from 'pantheon-auth-server';
import { allOperations } from '../../packages/pantheon-auth-server/src/app.ts';
import type { Access } from '../../packages/pantheon-auth-server/src/http/operation.ts';
import { ROOT } from '../run-command.ts';

/** What a route says of itself, as far as the documents tell it. */
export interface Call {
  readonly method: string;
  readonly url: string;
  readonly summary: string;
  readonly access: Access;
  /** Whether it goes further with `force`, which needs a permission of its own. */
  readonly takesForce: boolean;
}

/** The routes of the service. They belong to an engine, so one is opened for the moment, in a folder of its own. */
export async function readCalls(): Promise<readonly Call[]> {
  const folder = mkdtempSync(join(tmpdir(), 'pantheon-auth-docs-'));
  try {
    const { config } = loadConfig({ DATA_DIR: folder }, {});
    const auth = await createPantheonAuth({ dataDir: folder, issuer: config.publicUrl });
    try {
      return allOperations(auth, config).map(({ method, url, summary, access, query }) => {
        const takesForce = query !== undefined && 'shape' in query && Object.hasOwn(query.shape as object, 'force');
        return { method, url, summary, access, takesForce };
      });
    } finally {
      await auth.close();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** By the name in the marker. */
export function generatedParts(calls: readonly Call[]): Readonly<Record<string, string>> {
  return {
    denials: codeTable('denial'),
    errors: codeTable('error'),
    startup: codeTable('startup'),
    actions: actionTable(calls),
    calls: callTable(calls),
    invariants: invariantTable(readTests(ROOT)),
  };
}

const PART = /(<!-- generated: ([a-z-]+) -->\n)(.*?)(<!-- generated: end -->)/gs;

/** The document with its generated parts made anew. @throws for a part that nobody makes. */
export function fill(text: string, parts: Readonly<Record<string, string>>): string {
  return text.replace(PART, (_whole, begin: string, name: string, _old: string, end: string) => {
    const part = parts[name];
    if (part === undefined) throw new Error(`no part is called ${name}`);
    return `${begin}${part}${end}`;
  });
}

/** Names of the generated parts of a document. */
export function partsOf(text: string): readonly string[] {
  return Array.from(text.matchAll(PART), ([, , name = '']) => name);
}

function codeTable(kind: CodeEntry['kind']): string {
  const entries = (Object.entries(CODES) as [Code, CodeEntry][]).filter(([, entry]) => entry.kind === kind);
  const isStartup = kind === 'startup';
  const rows = entries.map(([code, { status, title, advice }]) =>
    isStartup ? [`\`${code}\``, title, advice] : [`\`${code}\``, String(status), title, advice],
  );
  return table(isStartup ? ['code', 'meaning', 'what to do'] : ['code', 'status', 'meaning', 'what to do'], rows);
}

function actionTable(calls: readonly Call[]): string {
  const rows = Object.entries(ACTIONS).map(([action, permission]) => {
    const own = calls.filter(({ access }) => access.kind === 'key' && access.action === action);
    const forced = action === 'keys.force' ? calls.filter(({ takesForce }) => takesForce) : [];
    const list = [
      ...own.map(({ method, url }) => `\`${method} ${wirePath(url)}\``),
      ...forced.map(({ method, url }) => `\`${method} ${wirePath(url)}?force=true\``),
    ].join('<br>');
    return [`\`${permission}\``, list === '' ? 'no HTTP call by itself' : list];
  });
  return table(['permission', 'calls that need it'], rows);
}

function callTable(calls: readonly Call[]): string {
  const rows = calls.map(({ method, url, summary, access }) => [
    `\`${method} ${wirePath(url)}\``,
    accessText(access),
    summary,
  ]);
  return table(['call', 'who may', 'what it does'], rows);
}

/** I1 to I14. */
const INVARIANTS = Array.from({ length: 14 }, (_, at) => `I${at + 1}`);

export interface NamedTest {
  readonly path: string;
  readonly name: string;
}

/** Every test and group of tests, by its name as it is written. */
export function readTests(root: string): readonly NamedTest[] {
  return globSync('{packages/*/{src,test},test}/**/*.test.ts', { cwd: root })
    .map((path) => path.replaceAll('\\', '/'))
    .sort()
    .flatMap((path) => testsOf(path, readFileSync(join(root, path), 'utf8')));
}

const TEST = /^ *(?:test|describe)(?:\.each\(.*\))?\(\s*(?:'([^'\n]+)'|"([^"\n]+)"|`([^`\n]+)`)/gm;

export function testsOf(path: string, text: string): readonly NamedTest[] {
  return Array.from(text.matchAll(TEST), ([, single, double, template]) => ({
    path,
    name: single ?? double ?? template ?? '',
  }));
}

/** The tests that name an invariant: `I4: …`, or `… (I4)`. */
export function testsNaming(invariant: string, tests: readonly NamedTest[]): readonly NamedTest[] {
  const word = new RegExp(`\\b${invariant}\\b`);
  return tests.filter(({ name }) => word.test(name));
}

function invariantTable(tests: readonly NamedTest[]): string {
  const rows = INVARIANTS.map((invariant) => {
    const byFile = Map.groupBy(testsNaming(invariant, tests), ({ path }) => path);
    const cells = Array.from(byFile, ([path, named]) => `\`${path}\`: ${named.map(({ name }) => name).join('; ')}`);
    return [invariant, cells.length === 0 ? 'none yet' : cells.join('<br>').replaceAll('|', '\\|')];
  });
  return table(['', 'tests that name it'], rows);
}

function accessText(access: Access): string {
  switch (access.kind) {
    case 'public':
      return 'anyone';
    case 'client':
      return 'an OAuth client: the key itself';
    case 'holder':
      return 'any key, by its string, also one whose overlap has ended';
    case 'self':
      return access.proof ? 'any key, by its string' : 'any key, or a token of it';
    case 'key':
      return `\`${ACTIONS[access.action]}\``;
  }
}

/** As OpenAPI writes it. */
function wirePath(url: string): string {
  return url.replace(/:([a-zA-Z]+)/g, '{$1}');
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return `${lines.join('\n')}\n`;
}
