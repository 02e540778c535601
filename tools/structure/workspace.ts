/** The packages of the workspace and their sources, as the rules see them: from the disk, or made up by a test. */
import { globSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { readSource, type SourceFile } from './source-file.ts';

export interface WorkspacePackage {
  readonly name: string;
  /** `packages/pantheon-auth`. */
  readonly folder: string;
  /** What others may import, by specifier, with the source file it stands for. */
  readonly entries: ReadonlyMap<string, string>;
  /** Sources of the commands. */
  readonly commands: readonly string[];
}

export interface Workspace {
  readonly packages: readonly WorkspacePackage[];
  readonly files: ReadonlyMap<string, SourceFile>;
}

export function readWorkspace(root: string): Workspace {
  const manifests = globSync('packages/*/package.json', { cwd: root }).map(toPosix).sort();
  const sources = globSync('packages/*/{src,test}/**/*.{ts,tsx}', { cwd: root }).map(toPosix).sort();
  return toWorkspace(
    manifests.map((path) => [path, readFileSync(join(root, path), 'utf8')]),
    sources.map((path) => [path, readFileSync(join(root, path), 'utf8')]),
  );
}

type TextFile = readonly [path: string, text: string];

export function toWorkspace(manifests: readonly TextFile[], sources: readonly TextFile[]): Workspace {
  return {
    packages: manifests.map(([path, text]) => readManifest(posix.dirname(path), text)),
    files: new Map(sources.map(([path, text]) => [path, readSource(path, text)])),
  };
}

interface Manifest {
  readonly name: string;
  readonly exports?: Readonly<Record<string, string | { readonly source?: string }>>;
  readonly bin?: Readonly<Record<string, string>>;
}

function readManifest(folder: string, text: string): WorkspacePackage {
  const manifest = JSON.parse(text) as Manifest;
  const entries = new Map<string, string>();
  for (const [subpath, target] of Object.entries(manifest.exports ?? {})) {
    const file = typeof target === 'string' ? target : target.source;
    if (file !== undefined) entries.set(posix.join(manifest.name, subpath), posix.join(folder, file));
  }
  const commands = Object.values(manifest.bin ?? {}).map((built) =>
    posix.join(folder, built.replace(/^(\.\/)?dist\//, 'src/').replace(/\.js$/, '.ts')),
  );
  return { name: manifest.name, folder, entries, commands: [...new Set(commands)] };
}

function toPosix(path: string): string {
  return path.replaceAll('\\', '/');
}
