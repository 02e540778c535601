/**
 * A program of someone who installed the packages. `proof-packages.ts` copies it out of the workspace and runs it there
 * with the manifests of the packed packages as its argument. It imports every subpath that they promise, also from
 * CommonJS (which fails when a module awaits at its top level), and starts every command.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';

interface Manifest {
  readonly name: string;
  readonly exports: Readonly<Record<string, unknown>>;
  readonly bin?: Readonly<Record<string, string>>;
}

/** Names that the documentation promises; a subpath that is not listed must export something. */
const PROMISED: Readonly<Record<string, readonly string[]>> = {
  'pantheon-auth': ['createPantheonAuth', 'APIKeyGenerator'],
  'pantheon-auth/testing': ['testAuth', 'TestClock'],
};

const require = createRequire(import.meta.url);
const manifests = JSON.parse(process.argv[2] ?? '[]') as readonly Manifest[];
assert.ok(manifests.length > 0, 'called without manifests');

for (const { name, exports, bin } of manifests) {
  for (const subpath of Object.keys(exports)) {
    if (subpath.endsWith('.json')) continue;
    const specifier = name + subpath.slice(1);
    const module = (await import(specifier)) as object;
    const names = Object.keys(module);
    assert.ok(names.length > 0, `${specifier} exports nothing`);
    for (const promised of PROMISED[specifier] ?? []) {
      assert.ok(names.includes(promised), `${specifier} does not export ${promised}`);
    }
    assert.deepEqual(Object.keys(require(specifier)).sort(), names.sort(), `${specifier} differs for require()`);
  }
  for (const [command, file] of Object.entries(bin ?? {})) {
    const main = require.resolve(`${name}/package.json`).replace('package.json', file.replace('./', ''));
    const help = execFileSync(process.execPath, [main, '--help'], { encoding: 'utf8' });
    assert.match(help, /usage/i, `${command} --help says nothing`);
  }
}
