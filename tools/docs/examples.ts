/**
 * Type-checks what we show: every `ts` block of the documents and every `@example` of the sources, all in one run of the
 * compiler. The blocks are written into a folder from which the packages of the workspace resolve as for a user.
 */
import { spawnSync } from 'node:child_process';
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { blocksOf, type Document } from './markdown.ts';

export interface Example {
  /** `docs/tokens.md:12`. */
  readonly at: string;
  readonly code: string;
}

/** The `ts` blocks of documents. */
export function examplesOfDocuments(documents: readonly Document[]): readonly Example[] {
  return documents.flatMap(({ path, text }) =>
    blocksOf(text)
      .filter(({ language }) => language === 'ts')
      .map(({ code, line }) => ({ at: `${path}:${line}`, code })),
  );
}

/** The `ts` blocks of doc comments. */
export function examplesOfSources(root: string): readonly Example[] {
  return globSync('packages/*/src/**/*.ts', { cwd: root, exclude: ['**/*.test.ts'] })
    .map((path) => path.replaceAll('\\', '/'))
    .sort()
    .flatMap((path) => examplesOfSource(path, readFileSync(join(root, path), 'utf8')));
}

export function examplesOfSource(path: string, text: string): readonly Example[] {
  const lines = text.split('\n').map((line) => /^\s*\* ?(.*)$/.exec(line)?.[1] ?? '');
  return blocksOf(lines.join('\n'))
    .filter(({ language }) => language === 'ts')
    .map(({ code, line }) => ({ at: `${path}:${line}`, code }));
}

/** Strict, but an example may leave a result unused. */
const TSCONFIG = {
  extends: '../../../tsconfig.base.json',
  compilerOptions: {
    noEmit: true,
    declaration: false,
    isolatedDeclarations: false,
    noUnusedLocals: false,
    noUnusedParameters: false,
  },
  files: [] as string[],
};

/** What the compiler says of each example that does not compile. */
export function typeCheck(root: string, examples: readonly Example[]): readonly string[] {
  const cache = join(root, 'node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'examples-'));
  try {
    const files = examples.map((_, at) => `example-${at}.ts`);
    for (const [at, { code }] of examples.entries())
      writeFileSync(join(folder, `example-${at}.ts`), `${code}export {};\n`);
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n');
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ ...TSCONFIG, files }));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, '-p', folder, '--pretty', 'false'], {
      cwd: folder,
      encoding: 'utf8',
    });
    const said = `${stdout}${stderr}`.trim();
    if (status === 0) return [];
    return said.split('\n').map((line) =>
      line.replace(/^example-(\d+)\.ts\((\d+),\d+\)/, (_, at: string, row: string) => {
        return `${examples[Number(at)]?.at ?? ''}, line ${row}`;
      }),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
