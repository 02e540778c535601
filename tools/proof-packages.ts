/**
 * Proves that the packages work for who installs them: builds and packs each one as it would be published, lets publint
 * and attw judge the archive, installs the archives into an empty project outside the workspace, and there type-checks
 * and runs `proof-packages/consumer.ts` on every supported Node that this machine has.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { build, PUBLISHED } from './build.ts';
import { ROOT, run } from './run-command.ts';

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly exports: Readonly<Record<string, unknown>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

interface Packed {
  readonly manifest: Manifest;
  readonly archive: string;
}

const work = mkdtempSync(join(tmpdir(), 'pantheon-auth-packages-'));
try {
  build();
  const packed = PUBLISHED.map(pack);
  for (const { manifest, archive } of packed) {
    run(work, 'publint', ['run', archive, '--strict']);
    run(work, 'attw', [archive, '--profile', 'esm-only', '--no-emoji', '--no-color']);
    console.log(`${manifest.name}: publint and attw have no complaint`);
  }
  const consumer = install(packed);
  run(consumer, 'tsc', ['-p', '.']);
  console.log('the consumer type-checks against the published declarations');
  for (const { path, version } of supportedNodes()) {
    process.stdout.write(run(consumer, path, ['consumer.ts', JSON.stringify(packed.map(({ manifest }) => manifest))]));
    console.log(`the consumer runs on Node ${version}`);
  }
  removePeers(consumer, packed);
  for (const { path, version } of supportedNodes()) {
    const { stderr, status } = spawnSync(path, ['without-peers.ts'], { cwd: consumer, encoding: 'utf8' });
    // Older ones warn that they run TypeScript, which is the program's business and not ours.
    const said = stderr.replace(/^.*Type Stripping.*$\n(?:^\(Use .*$\n)?/gm, '');
    if (status !== 0 || said !== '') throw new Error(`Without the optional packages, on Node ${version}:\n${stderr}`);
    console.log(`the root and the subpath for tests run on Node ${version} without any optional package`);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** Packs a staged copy, because what is published differs from the workspace: no `source` condition, and the licence. */
function pack(folder: string): Packed {
  const from = join(ROOT, folder);
  const stage = join(work, 'stage', folder);
  mkdirSync(stage, { recursive: true });
  cpSync(join(from, 'dist'), join(stage, 'dist'), { recursive: true });
  cpSync(join(ROOT, 'LICENSE'), join(stage, 'LICENSE'));
  const readme = [join(from, 'README.md'), join(ROOT, 'README.md')].find((path) => existsSync(path));
  if (readme !== undefined) cpSync(readme, join(stage, 'README.md'));
  const manifest = withoutSource(JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'))) as Manifest;
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  refuseStrays(join(stage, 'dist'));

  const [packing] = JSON.parse(run(stage, 'npm', ['pack', '--json', '--pack-destination', work])) as [
    { readonly filename: string; readonly entryCount: number },
  ];
  console.log(`packed ${packing.filename}, ${packing.entryCount} files`);
  return { manifest, archive: join(work, packing.filename) };
}

/** `source` leads to files that are not published; a bundler that asks for it must not find it. */
function withoutSource(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const kept = Object.entries(value).filter(([name]) => name !== 'source');
  return Object.fromEntries(kept.map(([name, inner]) => [name, withoutSource(inner)]));
}

function refuseStrays(dist: string): void {
  for (const path of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
    const isSource = /\.tsx?$/.test(path) && !path.endsWith('.d.ts');
    if (isSource || path.includes('.test.')) throw new Error(`${path} must not be published`);
    if (!/\.(js|d\.ts)$/.test(path)) continue;
    const unbuilt = /(?:from|import)\s*\(?\s*['"]\.[^'"]*(?<!\.d)\.tsx?['"]/.exec(
      readFileSync(join(dist, path), 'utf8'),
    );
    if (unbuilt !== null) throw new Error(`${path} still imports a source file: ${unbuilt[0]}`);
  }
}

/** An empty project that has the archives, and the optional peers at the versions we test with. */
function install(packed: readonly Packed[]): string {
  const folder = join(work, 'consumer');
  mkdirSync(folder);
  const peers = packed.flatMap(({ manifest }) => Object.keys(manifest.peerDependencies ?? {}));
  const specifiers = packed.flatMap(({ manifest }) =>
    Object.keys(manifest.exports)
      .filter((subpath) => !subpath.endsWith('.json'))
      .map((subpath) => `${manifest.name}${subpath.slice(1)}`),
  );
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({
      private: true,
      type: 'module',
      dependencies: {
        ...Object.fromEntries(packed.map(({ manifest, archive }) => [manifest.name, `file:${archive}`])),
        ...Object.fromEntries([...peers, '@types/node', '@types/express'].map((name) => [name, versionHere(name)])),
      },
    }),
  );
  for (const program of ['consumer.ts', 'without-peers.ts'])
    cpSync(join(import.meta.dirname, 'proof-packages', program), join(folder, program));
  writeFileSync(
    join(folder, 'every-subpath.ts'),
    specifiers.map((specifier, index) => `export * as m${index} from '${specifier}';\n`).join(''),
  );
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      // Our own declarations are libraries here, so they are checked too.
      compilerOptions: {
        target: 'es2024',
        module: 'nodenext',
        strict: true,
        noEmit: true,
        skipLibCheck: false,
        types: ['node'],
      },
      files: ['consumer.ts', 'every-subpath.ts', 'without-peers.ts'],
    }),
  );
  run(folder, 'npm', ['install', '--no-audit', '--no-fund', '--prefer-offline']);
  return folder;
}

/** What a package may do without is taken away. */
function removePeers(consumer: string, packed: readonly Packed[]): void {
  for (const { manifest } of packed)
    for (const [name, { optional }] of Object.entries(manifest.peerDependenciesMeta ?? {}))
      if (optional === true) rmSync(join(consumer, 'node_modules', name), { recursive: true, force: true });
}

function versionHere(name: string): string {
  const manifest = readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8');
  return (JSON.parse(manifest) as Manifest).version;
}

/** This Node, and any other on the PATH that `engines` allows. */
function supportedNodes(): readonly { readonly path: string; readonly version: string }[] {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const candidates = folders.flatMap((folder) => ['node', 'node22', 'node24'].map((name) => join(folder, name)));
  const versions = new Map<string, string>([[process.versions.node, process.execPath]]);
  for (const path of candidates.filter((candidate) => existsSync(candidate))) {
    const version = spawnSync(path, ['--print', 'process.versions.node'], { encoding: 'utf8' }).stdout.trim();
    if (isSupported(version) && !versions.has(version)) versions.set(version, path);
  }
  return [...versions].map(([version, path]) => ({ version, path }));
}

/** `^22.18 || ^24.11 || >=26`, as `engines` of every package says. */
function isSupported(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return (major === 22 && minor >= 18) || (major === 24 && minor >= 11) || major >= 26;
}
