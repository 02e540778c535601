/** Builds what is published: each package's `src/` to `dist/`, with declarations, without tests. */
import { globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, run } from './run-command.ts';

/** A package comes after those it imports, because it is compiled against their built declarations. */
export const PUBLISHED: readonly string[] = ['packages/pantheon-auth', 'packages/pantheon-auth-server'];

export function build(): void {
  for (const folder of PUBLISHED) {
    const dist = join(ROOT, folder, 'dist');
    // A file that is no longer made must not be published either.
    rmSync(dist, { recursive: true, force: true });
    run(ROOT, 'tsc', ['-p', join(folder, 'tsconfig.build.json')]);
    for (const path of globSync('**/*.d.ts', { cwd: dist })) pointToBuiltFiles(join(dist, path));
    console.log(`built ${folder}`);
  }
}

/**
 * tsc rewrites `./x.ts` to `./x.js` in the code and leaves it in the declarations. TypeScript 5 and newer finds
 * `x.d.ts` all the same; older versions and other tools look for a source file that is not published.
 */
function pointToBuiltFiles(path: string): void {
  const declarations = readFileSync(path, 'utf8');
  writeFileSync(path, declarations.replace(/((?:from|import)\s*\(?\s*['"]\.[^'"]*)\.tsx?(['"])/g, '$1.js$2'));
}

if (import.meta.main) build();
