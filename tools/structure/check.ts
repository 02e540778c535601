/** Holds a workspace against the tables of `rules.ts` and says, file by file, what breaks which rule. */
import { posix } from 'node:path';
import {
  BANNED,
  covers,
  EMPTY_NAMES,
  FUNCTION_LINES_MAX,
  IO_MODULES,
  isOneOf,
  type Layer,
  LIBRARY_LAYERS,
  LIBRARY_ROOT,
  NOT_FROM_ROOT_ENTRY,
  PACKAGE_OWNERS,
  PURE_FOLDER,
  ROOT_ENTRY,
  type Rule,
  SERVER_LAYERS,
  SERVER_ROOT,
  SOURCE_LINES_MAX,
  TEST_TOOLS,
} from './rules.ts';
import type { SourceFile } from './source-file.ts';
import type { Workspace, WorkspacePackage } from './workspace.ts';

export interface Violation {
  readonly rule: Rule;
  /** `path` or `path:line`. */
  readonly at: string;
  readonly message: string;
}

export function checkStructure(workspace: Workspace): readonly Violation[] {
  const files = [...workspace.files.values()];
  const sources = files.filter((file) => !file.isTest);
  const graph = new Map(files.map((file) => [file.path, edgesOf(workspace, file)]));
  return [
    ...sources.flatMap(checkFile),
    ...[...graph].flatMap(([path, edges]) => edges.flatMap((edge) => checkEdge(workspace, path, edge))),
    ...checkEntries(workspace),
    ...checkDeadFiles(workspace, sources, graph),
    ...checkRootEntry(graph),
    ...checkCycles(graph),
  ];
}

/** Where an import leads. */
type Target =
  | { readonly kind: 'ours'; readonly path: string; readonly via: 'path' | 'name' }
  | { readonly kind: 'package'; readonly name: string }
  | { readonly kind: 'nowhere'; readonly specifier: string }
  | { readonly kind: 'hidden'; readonly specifier: string }
  | { readonly kind: 'computed' };

interface Edge {
  readonly line: number;
  readonly target: Target;
}

type Graph = ReadonlyMap<string, readonly Edge[]>;

function edgesOf(workspace: Workspace, file: SourceFile): readonly Edge[] {
  return file.imports.flatMap(({ specifier, line }) => {
    const target = resolve(workspace, file.path, specifier);
    return target === null ? [] : [{ line, target }];
  });
}

function resolve(workspace: Workspace, from: string, specifier: string | null): Target | null {
  if (specifier === null) return { kind: 'computed' };
  if (specifier.startsWith('.')) {
    const path = posix.join(posix.dirname(from), specifier);
    if (workspace.files.has(path)) return { kind: 'ours', path, via: 'path' };
    if (workspace.files.get(from)?.isTest === true && TEST_TOOLS.some((tools) => covers(tools, path))) return null;
    // JSON, CSS and the like are the build's business.
    return /\.[cm]?[jt]sx?$/.test(path) ? { kind: 'nowhere', specifier } : null;
  }
  const owner = workspace.packages.find(({ name }) => isOneOf([name], specifier));
  if (owner === undefined) return { kind: 'package', name: specifier };
  const path = owner.entries.get(specifier);
  return path === undefined ? { kind: 'hidden', specifier } : { kind: 'ours', path, via: 'name' };
}

// One file by itself.

function checkFile(file: SourceFile): readonly Violation[] {
  const { path } = file;
  const violations: Violation[] = [];
  const folders = path.split('/').slice(3);
  const empty = folders.map((part) => part.replace(/\.tsx?$/, '')).find((part) => EMPTY_NAMES.has(part));
  if (empty !== undefined) {
    violations.push({ rule: 'name', at: path, message: `"${empty}" says nothing about what it owns` });
  }
  if (file.lines > SOURCE_LINES_MAX) {
    violations.push({ rule: 'length', at: path, message: `${file.lines} lines, at most ${SOURCE_LINES_MAX}` });
  }
  for (const { line, lines } of file.functions) {
    if (lines <= FUNCTION_LINES_MAX) continue;
    const message = `a function of ${lines} lines, at most ${FUNCTION_LINES_MAX}`;
    violations.push({ rule: 'function-length', at: `${path}:${line}`, message });
  }
  if (posix.basename(path) === 'index.ts' && !file.onlyReexports) {
    violations.push({ rule: 're-exports', at: path, message: 'has statements other than `export … from`' });
  }
  if ([LIBRARY_ROOT, SERVER_ROOT].some((root) => path.startsWith(root)) && layerOf(path) === null) {
    violations.push({ rule: 'layer', at: path, message: 'belongs to no layer of tools/structure/rules.ts' });
  }
  for (const { uses, allowedIn, instead } of BANNED) {
    if (allowedIn.some((home) => covers(home, path))) continue;
    const found = new Map(
      file.uses.filter(({ name }) => uses.some((use) => isUseOf(use, name))).map((use) => [use.line, use]),
    );
    for (const { name, line } of found.values()) {
      violations.push({ rule: 'banned-call', at: `${path}:${line}`, message: `${name}: ${instead}` });
    }
  }
  return violations;
}

function isUseOf(banned: string, name: string): boolean {
  const coversMembers = !banned.endsWith(')') && !name.endsWith(')');
  return name === banned || (coversMembers && name.startsWith(`${banned}.`));
}

// One import.

function checkEdge(workspace: Workspace, path: string, { line, target }: Edge): readonly Violation[] {
  const at = `${path}:${line}`;
  const isTest = workspace.files.get(path)?.isTest === true;
  switch (target.kind) {
    case 'nowhere':
      return [{ rule: 'missing-file', at, message: `${target.specifier} leads to no file` }];
    case 'hidden':
      return [{ rule: 'public-entry', at, message: `${target.specifier} is not in the package's exports` }];
    case 'computed':
      return isTest ? [] : [{ rule: 'readable-import', at, message: 'the imported name is computed' }];
    case 'package':
      return isTest ? [] : checkPackage(path, at, target.name);
    case 'ours':
      if (packageOf(workspace, path) !== packageOf(workspace, target.path)) {
        if (target.via === 'name') return [];
        return [{ rule: 'public-entry', at, message: `${target.path} belongs to another package: import it by name` }];
      }
      return isTest ? [] : checkArrow(path, at, target.path);
  }
}

function checkPackage(path: string, at: string, name: string): readonly Violation[] {
  const violations: Violation[] = [];
  for (const { packages, within, owners } of PACKAGE_OWNERS) {
    if (!isOneOf(packages, name) || !path.startsWith(within) || owners.some((owner) => covers(owner, path))) continue;
    violations.push({ rule: 'package-owner', at, message: `${name} belongs to ${owners.join(', ')}` });
  }
  if (path.startsWith(PURE_FOLDER) && isOneOf(IO_MODULES, name)) {
    violations.push({ rule: 'pure-domain', at, message: `${name} does I/O` });
  }
  return violations;
}

function checkArrow(path: string, at: string, target: string): readonly Violation[] {
  const from = layerOf(path);
  const to = layerOf(target);
  if (from === null || to === null || from === to) return [];
  const allowed = from.mayImport.some((name) => name === to.name || LIBRARY_ROOT + name === target);
  if (allowed) return [];
  return [{ rule: 'arrow', at, message: `${from.name} may not import ${to.name} (${target})` }];
}

function layerOf(path: string): Layer | null {
  return (
    [...LIBRARY_LAYERS, ...SERVER_LAYERS].find(({ owns }) => owns.some((pattern) => covers(pattern, path))) ?? null
  );
}

function packageOf(workspace: Workspace, path: string): WorkspacePackage | undefined {
  return workspace.packages.find(({ folder }) => path.startsWith(`${folder}/`));
}

// The graph.

function checkEntries({ packages, files }: Workspace): readonly Violation[] {
  return packages.flatMap(({ folder, entries, commands }) =>
    [...new Set([...entries.values(), ...commands])]
      .filter((path) => path.endsWith('.ts') && !files.has(path))
      .map((path): Violation => {
        return { rule: 'missing-file', at: `${folder}/package.json`, message: `${path} is promised and not there` };
      }),
  );
}

function checkDeadFiles(workspace: Workspace, sources: readonly SourceFile[], graph: Graph): readonly Violation[] {
  const roots = workspace.packages.flatMap(({ entries, commands }) => [...entries.values(), ...commands]);
  const alive = reachable(graph, roots);
  return sources
    .filter(({ path }) => !alive.has(path))
    .map(({ path }) => ({ rule: 'dead-file', at: path, message: 'no entry, command or test subpath leads here' }));
}

function checkRootEntry(graph: Graph): readonly Violation[] {
  return [...reachable(graph, [ROOT_ENTRY])].flatMap((path) =>
    (graph.get(path) ?? []).flatMap(({ line, target }): readonly Violation[] => {
      if (target.kind !== 'package' || !isOneOf(NOT_FROM_ROOT_ENTRY, target.name)) return [];
      return [{ rule: 'root-entry', at: `${path}:${line}`, message: `index.ts reaches ${target.name} through here` }];
    }),
  );
}

function reachable(graph: Graph, roots: readonly string[]): ReadonlySet<string> {
  const seen = new Set(roots.filter((path) => graph.has(path)));
  // A Set visits what is added while it is walked.
  for (const path of seen) for (const next of neighbours(graph, path)) seen.add(next);
  return seen;
}

/** Walks depth first; an import of a file that is still being walked closes a circle. Each circle is told once. */
function checkCycles(graph: Graph): readonly Violation[] {
  const violations: Violation[] = [];
  const done = new Set<string>();
  const trail: string[] = [];
  const walk = (path: string): void => {
    if (done.has(path)) return;
    const start = trail.indexOf(path);
    if (start !== -1) {
      const circle = [...trail.slice(start), path];
      violations.push({ rule: 'cycle', at: path, message: circle.join(' → ') });
      return;
    }
    trail.push(path);
    for (const next of neighbours(graph, path)) walk(next);
    trail.pop();
    done.add(path);
  };
  for (const path of graph.keys()) walk(path);
  return violations;
}

function neighbours(graph: Graph, path: string): readonly string[] {
  const paths = (graph.get(path) ?? []).flatMap(({ target }) => (target.kind === 'ours' ? target.path : []));
  return [...new Set(paths)].filter((next) => graph.has(next));
}
